"""Weights on disk: a safetensors file, and beside it a JSON card that describes it.

Nothing is unpickled, and no training code is needed, because the card names a network of the registry.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from worker.networks.card import Card, read_card, read_weights
from worker.networks.errors import NetworkError
from worker.networks.network import Network, SegmentationNetwork
from worker.networks.registry import NETWORKS, build


def save(path: Path, network: Network, card: Card, *, half: bool = False) -> Card:
    """Write weights to ``path`` and their card beside it, ending in ``.json``; return the card with the weights' hash.

    Parameters
    ----------
    half : bool
        Whether convolution and linear weights are stored in 16 bits. ``load`` converts them back to 32 bits.

    Raises
    ------
    NetworkError
        The card describes another network, or a weight does not fit into 16 bits.
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
        The card is malformed, the network unknown, or the weights do not match the card's hash or the network.
    OSError
        A file cannot be read.
    """
    card = read_card(path.with_suffix(".json"))
    data = read_weights(path, card)
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
    """Return weights of convolutions and linear layers in 16 bits, any other tensor unchanged.

    Biases and batch normalisation take little space, and variances may exceed the range of 16 bits.
    """
    if tensor.dim() < 2:
        return tensor
    half = tensor.half()
    if not half.isfinite().all():
        raise NetworkError("weights-exceed-half", f"a value of {name!r} does not fit into 16 bits; store 32")
    return half


def write(path: Path, data: bytes) -> None:
    """Write a file atomically: its name never refers to a partial file, not even after a power cut."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
