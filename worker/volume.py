"""A CT series as one volume in Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.findings import Flag
from worker.geometry import Geometry


@dataclass(frozen=True)
class SourceSlice:
    """Where a slice of the volume came from; ``frame_number`` (from 1) only in multi-frame objects."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True)
class Volume:
    """A CT series: int16 HU, (slice, row, column), slices ascending along the normal, with their origin.

    Padding outside the field of view reads -1024 HU. ``flags`` are doubts found while reading, such as a
    tilted gantry.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    slices: tuple[SourceSlice, ...]
    flags: tuple[Flag, ...] = ()


def read_volume(paths: Sequence[Path]) -> Volume:
    """To be written."""
    raise NotImplementedError
