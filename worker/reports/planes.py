"""Planes through a volume as a radiologist holds them: the patient's right on the left, head or breast up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from worker.geometry import Geometry

_Scalar = TypeVar("_Scalar", bound=np.generic)

X, Y, Z = 0, 1, 2
"""The patient's axes: to the left, to the back, to the head (LPS, PS3.3 C.7.6.2.1.1)."""


@dataclass(frozen=True)
class Plane:
    """A cut across one of the patient's axes, and what lies at its edges."""

    name: str
    axis: int
    left: str
    right: str
    top: str
    bottom: str


AXIAL = Plane("Axial", Z, "R", "L", "A", "P")
CORONAL = Plane("Coronal", Y, "R", "L", "H", "F")
SAGITTAL = Plane("Sagittal", X, "A", "P", "H", "F")
_BY_AXIS = {plane.axis: plane for plane in (AXIAL, CORONAL, SAGITTAL)}


@dataclass(frozen=True)
class PatientAxes:
    """How a volume's axes lie along the patient's.

    Parameters
    ----------
    order : tuple of int
        The array's axis that runs along the patient's x, y and z, the nearest for an oblique volume.
    reversed_ : tuple of bool
        Whether it runs the other way.
    spacing_mm : tuple of float
        Between voxels along the patient's x, y and z.
    """

    order: tuple[int, int, int]
    reversed_: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]

    @property
    def slice_plane(self) -> Plane:
        """The plane in which the volume's slices lie."""
        return _BY_AXIS[self.order.index(0)]

    @property
    def ends(self) -> tuple[str, str]:
        """What lies before the first slice and behind the last."""
        low, high = {X: ("R", "L"), Y: ("A", "P"), Z: ("F", "H")}[self.slice_plane.axis]
        return (high, low) if self.reversed_[self.slice_plane.axis] else (low, high)

    def index(self, slice_index: int, count: int) -> int:
        """Return where a slice of the volume lies along the patient's axis."""
        return count - 1 - slice_index if self.reversed_[self.order.index(0)] else slice_index

    def arrange(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Return a view of a (slice, row, column) array as (x, y, z) along the patient's axes."""
        arranged = array.transpose(self.order)
        return np.flip(arranged, tuple(axis for axis in (X, Y, Z) if self.reversed_[axis]))

    def arrange_along(self, of_each_axis: Sequence[NDArray[_Scalar]]) -> tuple[NDArray[_Scalar], ...]:
        """Return what is given along each axis of an array, along the patient's x, y and z."""
        return tuple(
            np.flip(of_each_axis[axis]) if is_reversed else of_each_axis[axis]
            for axis, is_reversed in zip(self.order, self.reversed_, strict=True)
        )

    def cut(self, array: NDArray[_Scalar], plane: Plane, index: int) -> NDArray[_Scalar]:
        """Return a plane of an array that `arrange` gave, as (row, column) to be looked at."""
        at: list[slice | int] = [slice(None)] * 3
        at[plane.axis] = index
        image: NDArray[_Scalar] = array[tuple(at)].T  # (x, y) becomes rows along y; (x, z) rows along z
        return np.ascontiguousarray(image if plane is AXIAL else image[::-1])

    def pixel_mm(self, plane: Plane) -> tuple[float, float]:
        """Return the size of a pixel of a cut, (row, column)."""
        column, row = (self.spacing_mm[axis] for axis in (X, Y, Z) if axis != plane.axis)
        return row, column


def patient_axes(geometry: Geometry) -> PatientAxes:
    """Return how a volume lies in the patient."""
    directions = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    order = max(permutations((0, 1, 2)), key=lambda axes: sum(abs(directions[i, a]) for i, a in enumerate(axes)))
    x, y, z = order
    return PatientAxes(
        order=(x, y, z),
        reversed_=(bool(directions[X, x] < 0), bool(directions[Y, y] < 0), bool(directions[Z, z] < 0)),
        spacing_mm=(geometry.spacing_mm[x], geometry.spacing_mm[y], geometry.spacing_mm[z]),
    )
