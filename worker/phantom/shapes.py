"""Signed distance-like fields of shapes in mm, positive inside, and functions that paint them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Real = NDArray[np.floating[Any]]
Point = tuple[float, float, float]
"""(x, y, z) in mm: to the patient's left, to the back, to the head; z = 0 is the lower edge of the lowest slice."""


@dataclass(frozen=True)
class Space:
    """Voxel centres in mm, as arrays that broadcast to (slice, row, column)."""

    z: Field
    y: Field
    x: Field

    @classmethod
    def regular(cls, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Space:
        """Return a space centred on the origin in x and y; in z the first voxel centre is half a slice above 0."""
        (depth, height, width), (dz, dy, dx) = shape, spacing_mm
        z = (np.arange(depth) + 0.5) * dz
        y = (np.arange(height) - (height - 1) / 2) * dy
        x = (np.arange(width) - (width - 1) / 2) * dx
        return cls(
            z.astype(np.float32)[:, None, None], y.astype(np.float32)[None, :, None], x.astype(np.float32)[None, None]
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return self.z.size, self.y.size, self.x.size

    def box(self, low: Point | Real, high: Point | Real) -> tuple[tuple[slice, slice, slice], Space]:
        """Return the index ranges of the part of the space between two corners, and that part."""
        ranges = []
        for axis, start, end in zip((self.z, self.y, self.x), low[::-1], high[::-1], strict=True):
            first, last = np.searchsorted(axis.ravel(), (start, end))
            ranges.append(slice(int(first), int(last)))
        z, y, x = ranges
        return (z, y, x), Space(self.z[z], self.y[:, y], self.x[:, :, x])


def as_field(values: Real) -> Field:
    """Return values in single precision, in which all fields are kept."""
    return values.astype(np.float32)


def ellipsoid(space: Space, centre: Point, radii: Point, turn_degrees: float = 0.0) -> Field:
    """Return the field of an ellipsoid, rotated about the z axis."""
    dx, dy, dz = space.x - centre[0], space.y - centre[1], space.z - centre[2]
    cosine, sine = np.cos(np.radians(turn_degrees)), np.sin(np.radians(turn_degrees))
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    length = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (dz / radii[2]) ** 2)
    return as_field((1 - length) * min(radii))


def tube(space: Space, start: Point, end: Point, radii: tuple[float, float]) -> Field:
    """Return the field of a straight, tapering tube with round ends."""
    a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)
    dx, dy, dz = space.x - a[0], space.y - a[1], space.z - a[2]
    along = b - a
    share = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / (along @ along), 0, 1)
    distance = np.sqrt((dx - share * along[0]) ** 2 + (dy - share * along[1]) ** 2 + (dz - share * along[2]) ** 2)
    return as_field(radii[0] + share * (radii[1] - radii[0]) - distance)


def paint(hu: Field, field: Real, value: Real | float, soft_mm: float = 1.5) -> None:
    """Paint a value, in place, over the inside of a field; the edge is `soft_mm` wide."""
    cover = np.clip(np.asarray(field, np.float32) / np.float32(soft_mm) + np.float32(0.5), 0, 1)
    hu += cover * (np.asarray(value, np.float32) - hu)


def paint_tube(
    hu: Field, space: Space, points: Sequence[Point], radii: Sequence[float], value: float, soft_mm: float = 1.2
) -> None:
    """Paint a value, in place, over a tube along several points."""
    for box, field in _straight_tubes(space, points, radii, soft_mm):
        paint(hu[box], field, value, soft_mm)


def carve_tube(field: Field, space: Space, points: Sequence[Point], radii: Sequence[float]) -> None:
    """Remove a tube along several points from the inside of a field, in place."""
    for box, tube_field in _straight_tubes(space, points, radii, 6):
        np.minimum(field[box], -tube_field, out=field[box])


def _straight_tubes(
    space: Space, points: Sequence[Point], radii: Sequence[float], margin_mm: float
) -> Iterator[tuple[tuple[slice, slice, slice], Field]]:
    """Yield the straight pieces of a tube that reach into the space: the index ranges around each, and its field."""
    for start, end, first, last in zip(points, points[1:], radii, radii[1:], strict=False):
        margin = max(first, last) + margin_mm
        box, part = space.box(np.minimum(start, end) - margin, np.maximum(start, end) + margin)
        if part.z.size and part.y.size and part.x.size:
            yield box, tube(part, start, end, (first, last))


def smooth_noise(space: Space, scale_mm: float, rng: np.random.Generator) -> Field:
    """Return a smooth random field: standard normal values on a grid of `scale_mm`, interpolated.

    The grid depends only on the space's extent, not on its resolution.
    """
    shape = [max(4, int(np.ptp(axis) / scale_mm) + 4) for axis in (space.z, space.y, space.x)]
    field = rng.standard_normal(shape).astype(np.float32)
    for number, axis in enumerate((space.z.ravel(), space.y.ravel(), space.x.ravel())):
        place = (axis - axis[0]) / np.float32(scale_mm)
        whole = place.astype(np.intp)
        share = place - whole
        share = share * share * (3 - 2 * share)
        form = [-1 if a == number else 1 for a in range(3)]
        field = field.take(whole, number) * (1 - share.reshape(form)) + field.take(whole + 1, number) * share.reshape(
            form
        )
    return field.astype(np.float32)
