"""Where voxels lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Defect

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a (slice, row, column) array lie in patient coordinates.

    Parameters
    ----------
    shape : tuple of int
        (slices, rows, columns).
    affine : ndarray of float64, shape (4, 4)
        Maps (slice, row, column, 1), at voxel centres, to patient coordinates in mm: DICOM's LPS frame
        (x to the patient's left, y to the back, z to the head). PS3.3 C.7.6.2.1.1.
    frame_of_reference_uid : str
        PS3.3 C.7.4.1.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frame_of_reference_uid: str

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between neighbouring voxel centres along (slice, row, column)."""
        slice_mm, row_mm, column_mm = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slice_mm), float(row_mm), float(column_mm)

    @cached_property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel; correct for sheared (tilted) stacks too."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @cached_property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel of a slice."""
        _, row_mm, column_mm = self.spacing_mm
        return row_mm * column_mm

    def to_patient(self, indices: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Return patient coordinates (mm), shape (n, 3), of (slice, row, column) indices, shape (n, 3)."""
        return np.asarray(indices, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    @cached_property
    def _anatomical_axes(self) -> tuple[int, ...]:
        """Array axes that run closest to the patient's (feet-head, front-back, right-left)."""
        cosines = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return max(permutations(range(3)), key=lambda axes: sum(abs(cosines[[2, 1, 0], list(axes)])))

    @property
    def is_axial(self) -> bool:
        """Whether slices follow one another from feet to head, or from head to feet."""
        return self._anatomical_axes[0] == 0

    @property
    def anatomical_spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along the axes of `anatomical`."""
        z, y, x = (self.spacing_mm[axis] for axis in self._anatomical_axes)
        return z, y, x

    def anatomical(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return a view of an array of this shape whose axes run feet to head, front to back, right to left.

        Writing to the view writes to the array. Axes are only exchanged and reversed, nothing is resampled: oblique
        axes stay oblique.
        """
        view = array.transpose(self._anatomical_axes)
        return view[tuple(slice(None, None, -1 if is_against else 1) for is_against in self._is_against)]

    def anatomical_box(self, box: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
        """Return where a box of the array lies in the view of `anatomical`."""
        turned = []
        for axis, is_against in zip(self._anatomical_axes, self._is_against, strict=True):
            span, length = box[axis], self.shape[axis]
            turned.append(slice(length - span.stop, length - span.start) if is_against else span)
        return turned[0], turned[1], turned[2]

    @property
    def _is_against(self) -> tuple[bool, ...]:
        """Whether each of `_anatomical_axes` runs the other way: head to feet, back to front, or left to right."""
        return tuple(self.affine[row, axis] < 0 for row, axis in zip((2, 1, 0), self._anatomical_axes, strict=True))

    def is_same_as(self, other: Geometry) -> bool:
        """Whether both describe the same voxels, to a hundredth of a millimetre."""
        return (
            self.shape == other.shape
            and self.frame_of_reference_uid == other.frame_of_reference_uid
            and bool(np.allclose(self.affine, other.affine, atol=0.01))
        )

    def require_same(self, other: Geometry) -> None:
        """Raise Defect unless both describe the same voxels."""
        if not self.is_same_as(other):
            raise Defect("geometry-mismatch", f"expected voxels of {self.shape}, got others of {other.shape}")
