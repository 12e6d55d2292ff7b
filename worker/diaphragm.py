"""What a network takes for infection where the dome of the diaphragm blurs into a slice."""

from __future__ import annotations

import numpy as np

from worker.candidates import Candidate, Verdict, by_size
from worker.grid import Bools
from worker.volume import Volume

TISSUE_HU = -200
"""Denser is liver, spleen or stomach wall, and no ground glass."""

BELOW_MM = 2.0
"""So far below a region, blurring no longer hides what lies there."""

LOWEST_MM, LOWEST_SLICES = 8.0, 1.5
"""A dome blurs into the lung so high, in mm or slices, whichever is more."""

MOST = 0.6
"""Of the region's columns must rest on tissue."""


def by_size_and_place(volume: Volume, own: Bools, candidate: Candidate) -> Verdict:
    """Keep what is not too small to be told from noise, nor a thin layer on the diaphragm."""
    verdict = by_size(volume, own, candidate)
    if verdict.kept and rests_on_tissue(volume, own, candidate):
        return Verdict(False, f"no higher than {LOWEST_MM:g} mm on tissue below: the diaphragm's dome, blurred")
    return verdict


def rests_on_tissue(volume: Volume, own: Bools, candidate: Candidate) -> bool:
    """Whether most of a region's columns, feet to head, are low and have tissue right below them."""
    geometry = volume.geometry
    spans = [slice(low, high + 1) for low, high in zip(candidate.first, candidate.last, strict=True)]
    slices, rows, columns = geometry.anatomical_box((spans[0], spans[1], spans[2]))
    region = geometry.anatomical(own)
    z_mm = geometry.anatomical_spacing_mm[0]
    below = slices.start + region.argmax(axis=0) - max(1, round(BELOW_MM / z_mm))
    hu = geometry.anatomical(volume.hu)[:, rows, columns]
    hu_below = np.take_along_axis(hu, np.maximum(below, 0)[None], axis=0)[0]
    is_low = region.sum(axis=0) * z_mm <= max(LOWEST_MM, LOWEST_SLICES * z_mm)
    rests = (below >= 0) & (hu_below > TISSUE_HU) & is_low
    return float(rests[region.any(axis=0)].mean()) >= MOST
