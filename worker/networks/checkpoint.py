"""Weights on disk: safetensors, and beside them a JSON card that says what they are.

Nothing is unpickled, and nothing of training is needed: the card names a network of the registry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeGuard

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from worker.networks.network import Network, SegmentationNetwork
from worker.networks.registry import NETWORKS, NetworkError, build


@dataclass(frozen=True)
class Card:
    """What a person, and the program, must know of a network's weights.

    Parameters
    ----------
    network : str
        Its name in the registry.
    arguments : dict
        Its constructor's arguments that differ from the defaults.
    classes : tuple of str
        What its channels mean: one name of a sigmoid; background first of a softmax.
    window_hu : tuple of float, or None
        HU that become 0 and 1 in its input, clipped beyond; None for images that are not in HU.
    spacing_mm : tuple of float or None
        Voxel spacing of its input along (slice, row, column); None where any was seen.
    image_size : tuple of int, or None
        (rows, columns) that images were resampled to; None for any.
    stack_slices : int
        Slices it sees at once: 1 in 2D, 3 in 2.5D.
    threshold : float
        Probability from which a sigmoid's class is said to be there.
    training_data, commit, licence : str
        What it learned from, the code that trained it, and the licence of the weights.
    metrics : dict
        Figures by name, such as ``{"dice": 0.76}``.
    weights_sha256 : str
        Hash of the safetensors file, filled in by ``save``.
    """

    network: str
    arguments: dict[str, Any]
    classes: tuple[str, ...]
    window_hu: tuple[float, float] | None
    spacing_mm: tuple[float | None, float | None, float | None]
    image_size: tuple[int, int] | None
    stack_slices: int
    threshold: float
    training_data: str
    commit: str
    licence: str
    metrics: dict[str, float]
    weights_sha256: str = ""


def save(path: Path, network: Network, card: Card, *, half: bool = False) -> Card:
    """Write weights to ``path`` and their card beside it, ending in ``.json``; return the card with its hash.

    Parameters
    ----------
    half : bool
        Whether convolution and linear weights are stored in 16 bits. They load back as 32.

    Raises
    ------
    NetworkError
        The card speaks of another network, or a weight does not fit into 16 bits.
    """
    if type(network) is not NETWORKS.get(card.network):
        raise NetworkError(
            "card-does-not-fit", f"the card says {card.network!r}, the network is a {type(network).__name__}"
        )
    require_classes(network, card)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        weights = {name: to_half(name, tensor) for name, tensor in weights.items()}
    data = safetensors.torch.save(weights)
    card = replace(card, weights_sha256=hashlib.sha256(data).hexdigest())
    write(path, data)
    write(path.with_suffix(".json"), json.dumps(asdict(card), indent=2).encode())
    return card


def load(path: Path) -> tuple[Network, Card]:
    """Return the network, in evaluation mode and 32 bits, and its card.

    Raises
    ------
    NetworkError
        The card is malformed, the network unknown, the weights are not those of the card or do not fit.
    OSError
        A file cannot be read.
    """
    card = read_card(path.with_suffix(".json"))
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card.weights_sha256:
        raise NetworkError(
            "wrong-weights-hash",
            f"the weights' SHA-256 should be {card.weights_sha256}, but is {found}; fetch weights and card "
            "again, together",
        )
    try:
        weights = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise NetworkError("bad-weights", f"the weights are no safetensors file: {error}") from error
    with torch.device("meta"):
        network = build(card.network, card.arguments)
    require_classes(network, card)
    require_same_tensors(network.state_dict(), weights)
    wide = {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}
    network.load_state_dict(wide, assign=True)
    return network.eval(), card


def read_card(path: Path) -> Card:
    """Return the card in a JSON file.

    Raises
    ------
    NetworkError
        It is not JSON, or a field is missing, unknown or not of its kind.
    """
    try:
        values: Any = json.loads(path.read_text())
    except ValueError as error:
        raise NetworkError("bad-card", f"the weights' card is not JSON: {error}") from error
    known = {field.name for field in fields(Card)}
    if not isinstance(values, dict) or values.keys() != known:
        differing = sorted(known ^ set(values)) if isinstance(values, dict) else sorted(known)
        raise NetworkError("bad-card", f"the weights' card has missing or unknown fields: {', '.join(differing)}")
    wrong = [name for name, value in values.items() if not is_valid(name, value)]
    if wrong:
        raise NetworkError("bad-card", f"the weights' card has values of a wrong kind: {', '.join(wrong)}")
    arguments: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return Card(**arguments)


def is_valid(name: str, value: object) -> bool:
    """Whether a field of a card, as JSON has it, is of its kind."""
    match name, value:
        case ("arguments", dict()) | ("window_hu" | "image_size", None):
            return True
        case "metrics", dict():
            return all(is_number(v) for v in value.values())
        case "classes", [_, *_]:
            return all(isinstance(v, str) for v in value)
        case "window_hu", [low, high]:
            return is_number(low) and is_number(high) and low < high
        case "spacing_mm", [_, _, _]:
            return all(v is None or (is_number(v) and v > 0) for v in value)
        case "image_size", [_, _]:
            return all(isinstance(v, int) and v > 0 for v in value)
        case "stack_slices", int(count):
            return count > 0
        case "threshold", float(probability):
            return 0 < probability < 1
        case "network" | "training_data" | "commit" | "licence" | "weights_sha256", str():
            return True
    return False


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def require_classes(network: Network, card: Card) -> None:
    """Raise NetworkError unless the card names each channel of a segmentation network."""
    if isinstance(network, SegmentationNetwork) and len(card.classes) != network.classes:
        raise NetworkError(
            "card-does-not-fit",
            f"the network has {network.classes} classes, the card names {len(card.classes)}",
        )


def require_same_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise NetworkError unless both have the same names and shapes."""
    expected_shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    found_shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    differing = sorted(name for name, _ in expected_shapes.items() ^ found_shapes.items())
    if differing:
        first = differing[0]
        raise NetworkError(
            "weights-do-not-fit",
            f"the weights are not of the network that their card names: {len(set(differing))} tensors differ, "
            f"first {first!r}, expected {expected_shapes.get(first)}, got {found_shapes.get(first)}",
        )


def to_half(name: str, tensor: Tensor) -> Tensor:
    """Return weights of convolutions and linear layers in 16 bits, all else as it is.

    Biases and batch normalisation are small, and variances may leave the range of 16 bits.
    """
    if tensor.dim() < 2:
        return tensor
    half = tensor.half()
    if not half.isfinite().all():
        raise NetworkError("weights-exceed-half", f"a value of {name!r} does not fit into 16 bits; store 32")
    return half


def write(path: Path, data: bytes) -> None:
    """Write a file so that its name never stands for half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
