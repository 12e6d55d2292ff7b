"""Planes through a volume in radiological orientation: the patient's right on the left, head or front up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.geometry import Scalar

Z, Y, X = 0, 1, 2
"""The axes of `Geometry.anatomical`: feet to head, front to back, right to left."""


@dataclass(frozen=True)
class Plane:
    """A plane perpendicular to one of these axes, and the orientation letters at its edges."""

    name: str
    axis: int
    left: str
    right: str
    top: str
    bottom: str

    def cut(self, array: NDArray[Scalar], index: int) -> NDArray[Scalar]:
        """Return the plane at an index of an anatomical array, as an upright image (row, column)."""
        return array[index] if self.axis == Z else np.ascontiguousarray(array[::-1, index])  # head up

    def pixel_mm(self, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
        """Return the pixel size (row, column) of such an image, given the spacing along the anatomical axes."""
        row, column = (spacing_mm[axis] for axis in (Z, Y, X) if axis != self.axis)
        return row, column


AXIAL = Plane("Axial", Z, "R", "L", "A", "P")
CORONAL = Plane("Coronal", Y, "R", "L", "H", "F")
