"""Whether masks show what they are named after, judged by the Hounsfield units below them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.sample import INFECTION, LUNG, UNIONS, BadData, Sample

LUNG_HU = (-1024, -150)
"""Range of the median HU of lungs, leaving out their infection."""

INFECTION_HU = (-900, 300)
"""Range of the median HU of infection; air is below it, compact bone above."""

AERATED_HU = (-975, -150)
"""Range of aerated lung, without the air around the patient."""

FITTING, CLEARLY = 0.8, 0.1
"""Share of aerated lung from which a mask fits, and by which it fits better. Real scans: 0.96 to 0.99, mirrored left to
right 0.75 to 0.84, otherwise up to 0.71."""

AXES = ("feet and head", "front and back", "left and right")
"""The ends of a sample's axes."""


def require_plausible_masks(sample: Sample, path: Path) -> Sample:
    """Return the scan, read from a path, or refuse it if its masks do not show lungs, or infection.

    Raises
    ------
    BadData
        When the lung masks are all empty or mirrored, or the median in them, or in the infection, is not that of lungs,
        or of infection, in HU: the values may not be HU, or the masks another scan's.
    """
    lungs, infection = (
        np.logical_or.reduce([mask for name, mask in sample.masks.items() if name in (union, *UNIONS[union])])
        for union in (LUNG, INFECTION)
    )
    if lungs.ndim and not lungs.any():  # somebody drew them
        raise BadData("empty-lungs", f"{path}: its lung masks are empty; they may belong to another scan")
    free = lungs & ~infection
    healthy = free if free.any() else lungs
    if healthy.any() and (swapped := mirrored(sample.image, healthy)):
        raise BadData(
            "mirrored", f"{path}: its lung masks fit the lungs if one swaps {swapped}; save them anew, not mirrored"
        )
    for name, mask, (lowest, highest) in (("lung", healthy, LUNG_HU), ("infection", infection, INFECTION_HU)):
        usual = float(np.median(sample.image[mask])) if mask.any() else lowest
        if not lowest <= usual <= highest:
            message = f"{path}: within its masks of {name} the median is {usual:.0f}, expected {lowest} to {highest} HU"
            raise BadData("not-hu", f"{message}; its values may be no HU, or its masks another scan's")
    return sample


def mirrored(image: NDArray[np.int16] | NDArray[np.uint8], lungs: NDArray[np.bool_]) -> str:
    """Return which ends of the axes to swap for a lung mask to fit the lungs; nothing if it fits better as it is."""
    aerated = (AERATED_HU[0] <= image) & (image <= AERATED_HU[1])
    flips = [axes for count in range(4) for axes in combinations(range(3), count)]
    shares = {axes: float(np.flip(aerated, axes)[lungs].mean()) for axes in flips}
    best = max(shares, key=lambda axes: shares[axes])
    if shares[best] < FITTING or shares[best] < shares[()] + CLEARLY:
        return ""
    return ", ".join(AXES[axis] for axis in best)
