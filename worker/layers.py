"""Regions that a network mistakes for infection where tissue below (a dome) or above (a rib) blurs into a slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.candidates import Candidate, Verdict, by_size
from worker.grid import Bools
from worker.volume import Volume

TISSUE_HU = -200
"""Liver, spleen, stomach wall, chest wall and bone are denser; ground glass is not."""

BEYOND_MM = 2.0
"""At this distance below or above a region, blurring no longer hides what lies there."""

LOWEST_MM, LOWEST_SLICES = 8.0, 1.5
"""How high tissue blurs into the lung above it, in mm or in slices, whichever is more."""

MOST = 0.6
"""A region lies at tissue if at least this share of its columns (feet to head) does."""


def by_size_and_place(volume: Volume, own: Bools, candidate: Candidate) -> Verdict:
    """Keep a region unless it is too small to be distinguished from noise, or a thin layer at tissue."""
    verdict = by_size(volume, own, candidate)
    if verdict.kept and rests_on_tissue(volume, own, candidate):
        lowest_mm = f"{_lowest_mm(volume):.3g} mm"
        return Verdict(False, f"no higher than {lowest_mm} on tissue (diaphragm, mediastinum or vessel), blurred")
    if verdict.kept and hangs_from_tissue(volume, own, candidate):
        return Verdict(False, "in one slice alone under tissue above: an edge of rib or chest wall, blurred")
    return verdict


def rests_on_tissue(volume: Volume, own: Bools, candidate: Candidate) -> bool:
    """Whether most of a region's columns, feet to head, are no higher than tissue blurs and have it right below."""
    region = volume.geometry.anatomical(own)
    is_low = region.sum(axis=0) * volume.geometry.anatomical_spacing_mm[0] <= _lowest_mm(volume)
    rests = is_low & _is_tissue(volume, candidate, region.argmax(axis=0) - _beyond(volume))
    return float(rests[region.any(axis=0)].mean()) >= MOST


def hangs_from_tissue(volume: Volume, own: Bools, candidate: Candidate) -> bool:
    """Whether a region lies in a single slice and has tissue right above most of it.

    Layers of several slices are not meant: infection along a pleura that leans inwards has tissue above it too.
    """
    region = volume.geometry.anatomical(own)
    if len(region) > 1:
        return False
    hangs = _is_tissue(volume, candidate, np.full(region.shape[1:], _beyond(volume)))
    return float(hangs[region[0]].mean()) >= MOST


def _lowest_mm(volume: Volume) -> float:
    """Return how high tissue blurs into the lung above it, given the distance between the slices."""
    return max(LOWEST_MM, LOWEST_SLICES * volume.geometry.anatomical_spacing_mm[0])


def _beyond(volume: Volume) -> int:
    """Return how many slices below or above a region tissue is looked for."""
    return max(1, round(BEYOND_MM / volume.geometry.anatomical_spacing_mm[0]))


def _is_tissue(volume: Volume, candidate: Candidate, levels: NDArray[np.intp]) -> Bools:
    """Return for each column of the region's bounding box whether there is tissue at its level.

    Levels count slices upwards from the region's lowest slice. Beyond the volume there is no tissue, for nothing is
    known about it.
    """
    geometry = volume.geometry
    spans = [slice(low, high + 1) for low, high in zip(candidate.first, candidate.last, strict=True)]
    slices, rows, columns = geometry.anatomical_box((spans[0], spans[1], spans[2]))
    hu = geometry.anatomical(volume.hu)[:, rows, columns]
    at = slices.start + levels
    found = np.take_along_axis(hu, at.clip(0, len(hu) - 1)[None], axis=0)[0] > TISSUE_HU
    tissue: Bools = found & (at >= 0) & (at < len(hu))
    return tissue
