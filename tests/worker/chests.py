"""Small chests as volumes, and how much two masks have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.factories import chest_hu
from worker.findings import LEFT
from worker.geometry import Geometry
from worker.volume import Volume


def volume_of(hu: NDArray[np.int16], signs: tuple[int, int, int] = (1, 1, 1)) -> Volume:
    """Return an axial volume with voxels of 6 x 3 x 3 mm; along axes with sign -1 its array is reversed."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = np.multiply(signs, (6, 3, 3))
    affine[3, 3] = 1
    flipped = np.ascontiguousarray(hu[tuple(slice(None, None, sign) for sign in signs)])
    return Volume(flipped, Geometry(hu.shape, affine, "1.2"), (), body_part="CHEST")


def chest_with_bulla(rows: slice = slice(42, 55), depth: int = 8) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return a chest with a bulla of -985 HU low in the left lung, at the costal pleura, and the bulla's mask.

    By default it has about 34 mL.
    """
    hu, truth, _ = chest_hu()
    left = truth == LEFT
    from_pleura = np.cumsum(left[:, :, ::-1], axis=2)[:, :, ::-1]
    bulla = np.zeros_like(left)
    bulla[6:12, rows] = (left & (from_pleura <= depth))[6:12, rows]
    hu[bulla] = -985
    return hu, bulla


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
