"""A network as OpenVINO reads it: two files beside the weights, for which the card has one hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from worker.networks.card import Card
from worker.networks.errors import NetworkError


def exported_files(path: Path) -> tuple[Path, Path]:
    """Return where the structure and the weights lie that were exported from the weights at a path."""
    return path.with_suffix(".xml"), path.with_suffix(".bin")


def read_exported(path: Path, card: Card) -> tuple[bytes, bytes]:
    """Return the structure and the weights that were exported from the weights at a path.

    Raises
    ------
    NetworkError
        They are not those of the card.
    OSError
        A file cannot be read.
    """
    structure, weights = (file.read_bytes() for file in exported_files(path))
    if sha256(structure, weights) != card.openvino_sha256:
        raise NetworkError(
            "wrong-weights-hash",
            f"{path.stem}.xml and {path.stem}.bin are not those that the card of {path.name} names; run "
            "`hilum export` again, or fetch all four files again, together",
        )
    return structure, weights


def sha256(structure: bytes, weights: bytes) -> str:
    """Return one hash of both files."""
    return hashlib.sha256(hashlib.sha256(structure).digest() + hashlib.sha256(weights).digest()).hexdigest()
