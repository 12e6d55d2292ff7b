"""Geometries of small volumes whose axes run along the patient's in any order, forwards or backwards."""

from __future__ import annotations

import numpy as np

from worker.geometry import Geometry

SHAPE = (3, 4, 5)
SPACING_MM = (6.0, 3.0, 2.0)
AXIAL_ORDERS = ((2, 1, 0), (2, 0, 1))
"""Orders of the array's axes for slices that follow each other along the body; rows and columns may be exchanged."""


def geometry_along(order: tuple[int, ...], signs: tuple[int, ...]) -> Geometry:
    """Return one whose array axis i runs along patient axis order[i] (0 is x), backwards if signs[i] is -1."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (along, sign) in enumerate(zip(order, signs, strict=True)):
        affine[along, axis] = sign * SPACING_MM[axis]
    return Geometry(SHAPE, affine, "1.2.3")
