"""The JSON card beside a network's weights, which describes them and states their hashes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

from worker.networks.errors import NetworkError


@dataclass(frozen=True)
class Card:
    """What people and the program need to know about a network's weights.

    Parameters
    ----------
    network : str
        The network's name in the registry.
    arguments : dict
        Arguments of its constructor that differ from the defaults.
    classes : tuple of str
        Names of its output channels: one for a sigmoid; for a softmax the background comes first.
    window_hu : tuple of float, or None
        HU that become 0 and 1 in its input, with values beyond clipped; None if the images are not in HU, or if each
        was windowed as its DICOM header says.
    spacing_mm : tuple of float or None
        Voxel spacing of its input along (slice, row, column); None along an axis where any spacing occurred.
    image_size : tuple of int, or None
        (rows, columns) that images were resampled to; None for any size.
    stack_slices : int
        Number of slices in its input: 1 in 2D, 3 in 2.5D, the depth of a stack in 3D.
    threshold : float
        Smallest probability at which a sigmoid's class counts as present.
    training_data, commit, licence : str
        The data it was trained on, the commit (or version) of the training code, and the licence of the weights.
    metrics : dict
        Evaluation results by name, such as ``{"dice": 0.76}``.
    weights_sha256 : str
        Hash of the safetensors file, filled in by ``save``.
    openvino_sha256 : str
        Hash of the network in OpenVINO's format, filled in by ``export``; empty if it was not exported.
    short : bool
        Whether it was trained in an experiment's short form; older cards without this field count as full.
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
    openvino_sha256: str = ""
    short: bool = False

    def require_full(self) -> None:
        """Raise NetworkError if the weights come from an experiment's short form, which must not measure patients."""
        if self.short:
            raise NetworkError(
                "short-run", "the weights are of a short form (`hilum train --short`); train it in full length"
            )


def read_card(path: Path) -> Card:
    """Return the card in a JSON file.

    Raises
    ------
    NetworkError
        It is not JSON, or a field is missing, unknown or of a wrong kind.
    OSError
        The file cannot be read.
    """
    try:
        values: Any = json.loads(path.read_text())
    except ValueError as error:
        raise NetworkError("bad-card", f"the weights' card is not JSON: {error}") from error
    known = {field.name for field in fields(Card)}
    if isinstance(values, dict):
        values = {"short": False} | values
    if not isinstance(values, dict) or values.keys() != known:
        differing = sorted(known ^ set(values)) if isinstance(values, dict) else sorted(known)
        raise NetworkError("bad-card", f"the weights' card has missing or unknown fields: {', '.join(differing)}")
    wrong = [name for name, value in values.items() if not is_valid(name, value)]
    if wrong:
        raise NetworkError("bad-card", f"the weights' card has values of a wrong kind: {', '.join(wrong)}")
    arguments: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return Card(**arguments)


def read_weights(path: Path, card: Card) -> bytes:
    """Return the weights in a file, after checking them against the card.

    Raises
    ------
    NetworkError
        Their hash is not the card's.
    OSError
        The file cannot be read.
    """
    weights = path.read_bytes()
    found = hashlib.sha256(weights).hexdigest()
    if found != card.weights_sha256:
        raise NetworkError(
            "wrong-weights-hash",
            f"the weights' SHA-256 should be {card.weights_sha256}, but is {found}; fetch weights and card "
            "again, together",
        )
    return weights


def exported_files(path: Path) -> tuple[Path, Path]:
    """Return the paths of OpenVINO's files (structure, weights) that belong to the weights at a path."""
    return path.with_suffix(".xml"), path.with_suffix(".bin")


def read_exported(path: Path, card: Card) -> tuple[bytes, bytes]:
    """Return the structure and the weights that were exported from the weights at a path.

    Raises
    ------
    NetworkError
        Their hash is not the card's.
    OSError
        A file cannot be read.
    """
    structure, weights = (file.read_bytes() for file in exported_files(path))
    if exported_sha256(structure, weights) != card.openvino_sha256:
        raise NetworkError(
            "wrong-weights-hash",
            f"{path.stem}.xml and {path.stem}.bin are not those that the card of {path.name} names; run "
            "`hilum export` again, or fetch all four files again, together",
        )
    return structure, weights


def exported_sha256(structure: bytes, weights: bytes) -> str:
    """Return the single hash that a card states for both files."""
    return hashlib.sha256(hashlib.sha256(structure).digest() + hashlib.sha256(weights).digest()).hexdigest()


def is_valid(name: str, value: object) -> bool:
    """Whether the JSON value of a card's field is of the right kind."""
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
        case "short", bool():
            return True
        case "stack_slices", int(count):
            return count > 0
        case "threshold", float(probability):
            return 0 < probability < 1
        case "network" | "training_data" | "commit" | "licence" | "weights_sha256" | "openvino_sha256", str():
            return True
    return False


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
