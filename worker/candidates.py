"""Candidate regions of infection: found, judged, and kept or removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from worker.findings import Flag, Mask, Region
from worker.grid import Bools, Box, bounding_box
from worker.volume import Volume

SMALLEST_ML = 0.5
"""A smaller region is more often a vessel or noise than a lesion."""

UNCOUNTED_ML = 0.01
"""Smaller specks are dropped and not listed."""


class Candidates(NamedTuple):
    """The segmented infection before its regions are judged.

    Parameters
    ----------
    doubts : tuple of Flag
        About the segmentation as a whole.
    probability_percent : ndarray of uint8, shape of the mask, or None
        Probability of infection in percent where the mask is true, 0 elsewhere; None if no network ran.
    """

    mask: Mask
    doubts: tuple[Flag, ...] = ()
    probability_percent: NDArray[np.uint8] | None = None


class Verdict(NamedTuple):
    """Whether a region is infection, and why."""

    kept: bool
    reason: str


class Candidate(NamedTuple):
    """A connected region before it is judged; `first` and `last` are the inclusive corners of its bounding box."""

    volume_ml: float
    mean_hu: float
    probability: float | None
    first: tuple[int, int, int]
    last: tuple[int, int, int]


Judge = Callable[[Volume, Bools, Candidate], Verdict]
"""Decides on one candidate, given the mask of its own voxels within its bounding box.

docs/models.md says why this is not left to a classifier.
"""


def by_size(_volume: Volume, _own: Bools, candidate: Candidate) -> Verdict:
    """Keep a region unless it is too small to be distinguished from vessels and noise."""
    if candidate.volume_ml < SMALLEST_ML:
        return Verdict(False, f"smaller than {SMALLEST_ML} mL")
    return Verdict(True, f"at least {SMALLEST_ML} mL")


def filter_candidates(volume: Volume, candidates: Candidates, judge: Judge) -> tuple[Mask, tuple[Region, ...]]:
    """Return the mask of the regions judged to be infection, and all judged regions, largest first.

    Voxels of a region are connected through faces. Specks below UNCOUNTED_ML are neither judged nor kept. Wu et al.
    2020 judge the candidates with a classifier after segmentation.
    """
    mask = candidates.mask
    # Not zeros_like, which writes to every page of memory: the system provides zeroed pages at no cost.
    kept = np.zeros(mask.array.shape, np.bool_)
    if not mask.array.any():
        return Mask(kept, mask.geometry), ()
    box = bounding_box(mask.array)
    corner = [edge.start for edge in box]
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.array[box].astype(np.uint8)))
    speck = max(1, round(UNCOUNTED_ML / volume.geometry.voxel_volume_ml))
    labelled = sitk.RelabelComponent(labelled, minimumObjectSize=speck)
    statistics = sitk.LabelIntensityStatisticsImageFilter()
    statistics.Execute(labelled, sitk.GetImageFromArray(volume.hu[box]))
    labels = statistics.GetLabels()
    probabilities = _probabilities(sitk.GetArrayViewFromImage(labelled), candidates.probability_percent, box)
    is_kept = np.zeros(max(labels, default=0) + 1, np.bool_)
    regions = []
    for label in labels:
        x, y, z, width, height, depth = statistics.GetBoundingBox(label)
        first = (z + corner[0], y + corner[1], x + corner[2])
        candidate = Candidate(
            volume_ml=statistics.GetNumberOfPixels(label) * volume.geometry.voxel_volume_ml,
            mean_hu=statistics.GetMean(label),
            probability=None if probabilities is None else float(probabilities[label]),
            first=first,
            last=(first[0] + depth - 1, first[1] + height - 1, first[2] + width - 1),
        )
        own = sitk.GetArrayViewFromImage(labelled)[z : z + depth, y : y + height, x : x + width] == label
        verdict = judge(volume, own, candidate)
        is_kept[label] = verdict.kept
        regions.append(Region(*candidate, *verdict))
    kept[box] = is_kept[sitk.GetArrayViewFromImage(labelled)]
    return Mask(kept, mask.geometry), tuple(regions)


def _probabilities(
    labelled: NDArray[np.integer], percent: NDArray[np.uint8] | None, box: Box
) -> NDArray[np.float64] | None:
    """Return the mean probability of infection of every label, from 0 to 1; the background's value has no meaning."""
    if percent is None:
        return None
    inside = labelled != 0
    labels = labelled[inside]
    sums = np.bincount(labels, weights=percent[box][inside])
    means: NDArray[np.float64] = sums / np.maximum(np.bincount(labels), 1) / 100
    return means
