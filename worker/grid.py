"""A coarse grid on which morphology in millimetres is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from worker.geometry import Geometry, Scalar

Bools = NDArray[np.bool_]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Blocks of voxels in anatomical order (feet to head, front to back, right to left).

    Parameters
    ----------
    strides : tuple of int
        Voxels per block, along each axis.
    spacing_mm : tuple of float
        Size of a block, along each axis.
    """

    strides: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def about(cls, block_mm: float, geometry: Geometry) -> Grid:
        """Return the grid whose blocks come nearest to a size; never finer than the voxels."""
        z, y, x = geometry.anatomical_spacing_mm
        a, b, c = (max(1, round(block_mm / mm)) for mm in (z, y, x))
        return cls((a, b, c), (a * z, b * y, c * x))

    @property
    def block_ml(self) -> float:
        """Volume of a block as if its edges were at right angles; a tilted stack's is smaller by the tilt's cosine."""
        return float(np.prod(self.spacing_mm)) / 1000

    def shrink(self, hu: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the mean of every whole block, rounded down; incomplete blocks at the ends are left out."""
        return (self._total(hu) // math.prod(self.strides)).astype(np.int16)

    def share(self, mask: Bools) -> NDArray[np.float32]:
        """Return the share of true voxels in every whole block."""
        share: NDArray[np.float32] = np.divide(self._total(mask), math.prod(self.strides), dtype=np.float32)
        return share

    def _total(self, values: NDArray[np.int16] | Bools) -> NDArray[np.int32]:
        a, b, c = self.strides
        depth, height, width = (n // s for n, s in zip(values.shape, self.strides, strict=True))
        total = np.zeros((depth, height, width), np.int32)
        for z, y, x in np.ndindex(a, b, c):
            total += values[z : depth * a : a, y : height * b : b, x : width * c : c]
        return total

    def expand(self, blocks: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
        """Repeat every block over its voxels, and the last ones also over the voxels that `shrink` left out."""
        for axis, (stride, count) in enumerate(zip(self.strides, shape, strict=True)):
            index = np.minimum(np.arange(count) // stride, blocks.shape[axis] - 1)
            blocks = blocks.take(index, axis)
        return blocks

    def voxels(self, box: Box, shape: tuple[int, ...]) -> Box:
        """Return the box of voxels that a box of blocks covers; the last blocks include what `shrink` left out."""
        z, y, x = (
            slice(span.start * stride, span.stop * stride if span.stop < count // stride else count)
            for span, stride, count in zip(box, self.strides, shape, strict=True)
        )
        return z, y, x

    def dilated(self, mask: Bools, radius_mm: float) -> Bools:
        """Dilate by a ball."""
        return _array(sitk.BinaryDilate(self._image(mask), self._radius(radius_mm)))

    def eroded(self, mask: Bools, radius_mm: float) -> Bools:
        """Erode by a ball, but at least by one block; nothing is eroded from the edge of the array."""
        radius = [max(1, r) for r in self._radius(radius_mm)]
        return _array(sitk.BinaryErode(self._image(mask), radius, boundaryToForeground=True))

    def opened(self, mask: Bools, radius_mm: float) -> Bools:
        """Remove the parts of the mask that a ball does not fit into."""
        return _array(sitk.BinaryMorphologicalOpening(self._image(mask), self._radius(radius_mm)))

    def closed(self, mask: Bools, radius_mm: float) -> Bools:
        """Fill the gaps and holes of the mask that a ball does not fit into."""
        radius = self._radius(radius_mm)
        box = bounding_box(mask, margin=tuple(reversed(radius)))
        result = np.zeros_like(mask)
        result[box] = _array(sitk.BinaryMorphologicalClosing(self._image(mask[box]), radius))
        return result

    def smoothed(self, hu: NDArray[np.int16], sigma_mm: float) -> NDArray[np.float32]:
        """Filter by a Gaussian."""
        image = self._image(hu.astype(np.float32))
        smooth = sitk.DiscreteGaussian(image, [sigma_mm**2] * 3, useImageSpacing=True)
        return sitk.GetArrayFromImage(smooth)

    def components(self, mask: Bools, smallest_ml: float = 0.0) -> NDArray[np.uint32]:
        """Label face-connected components from 1, largest first, and drop the small ones."""
        if not mask.size:  # SimpleITK would crash the process
            return np.zeros(mask.shape, np.uint32)
        labelled = sitk.ConnectedComponent(self._image(mask))
        smallest = max(1, round(smallest_ml / self.block_ml))
        return _numbered(sitk.RelabelComponent(labelled, minimumObjectSize=smallest))

    def connected_to(self, seed: tuple[int, int, int], mask: Bools) -> Bools:
        """Return the face-connected component of the mask that contains the block ``seed``."""
        z, y, x = seed
        return _array(sitk.ConnectedThreshold(self._image(mask), [(x, y, z)], 1, 1))

    def depth_mm(self, mask: Bools) -> NDArray[np.float32]:
        """Return each block's distance to the mask's edge: above 0 inside, below 0 outside."""
        distance = sitk.SignedMaurerDistanceMap(
            self._image(mask), insideIsPositive=True, squaredDistance=False, useImageSpacing=True
        )
        return sitk.GetArrayFromImage(distance)

    def _radius(self, radius_mm: float) -> list[int]:
        return [round(radius_mm / mm) for mm in reversed(self.spacing_mm)]

    def _image(self, array: NDArray[Any]) -> sitk.Image:
        image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == np.bool_ else array)
        image.SetSpacing(self.spacing_mm[::-1])
        return image


def bounding_box(mask: Bools | NDArray[np.uint8], margin: tuple[int, ...] = (0, 0, 0)) -> Box:
    """Return the bounding box of the elements that are not 0, with a margin as far as the array reaches.

    The array must have such elements.
    """
    ranges = []
    for axis, extra in enumerate(margin):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        ranges.append(slice(max(0, int(found[0]) - extra), min(mask.shape[axis], int(found[-1]) + extra + 1)))
    return ranges[0], ranges[1], ranges[2]


def filled(mask: Bools) -> Bools:
    """Fill the holes of every slice.

    The background of all slices is labelled at once: empty slices between them keep them apart, and a border of
    background around each makes the outside of the mask a single component per slice.
    """
    result = mask.copy()
    if not mask.any():
        return result
    box = bounding_box(mask)
    count, height, width = mask[box].shape
    background = np.zeros((2 * count, height + 2, width + 2), np.uint8)
    background[::2] = 1
    background[::2, 1:-1, 1:-1] = ~mask[box]
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(background))
    labels = sitk.GetArrayViewFromImage(labelled)[::2]
    result[box] = labels[:, 1:-1, 1:-1] != labels[:, :1, :1]
    return result


def with_enclosed(mask: Bools) -> Bools:
    """Return a mask together with the cavities that it encloses on all sides."""
    result = mask.copy()
    if not mask.any():
        return result
    box = bounding_box(mask)
    background = np.pad(~mask[box], 1, constant_values=True).view(np.uint8)
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(background))
    labels = sitk.GetArrayViewFromImage(labelled)
    result[box] = labels[1:-1, 1:-1, 1:-1] != labels[0, 0, 0]
    return result


def _array(image: sitk.Image) -> Bools:
    return sitk.GetArrayViewFromImage(image).astype(np.bool_)


def _numbered(image: sitk.Image) -> NDArray[np.uint32]:
    return sitk.GetArrayFromImage(image)
