"""One label map for all data sets of the shipped model, whatever each of them had annotated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from training.datasets.sample import INFECTION, LUNG, PLEURAL_EFFUSION, UNIONS, Sample
from training.target import UNKNOWN, Target
from worker.findings import Lungs
from worker.geometry import Geometry
from worker.infection import segment_infection
from worker.lungs import segment_lungs
from worker.volume import Volume

FAINT_HU, FAINT_SIGMA = 60, 2.0
"""Lung that is so much denser than the scan's median, after smoothing by so many pixels, may be ground glass."""

DENSE_HU = -700
"""Around lungs by threshold, what is above may be consolidated lung."""

PLEURA_RADIUS = 20
"""In pixels: how far beyond its threshold lung a scan with infection may have consolidated lung."""


@dataclass(frozen=True)
class ChestTarget(Target):
    """Lung, infection and effusion, where parts of the first two that nobody annotated are unknown, not absent.

    - Without a lung mask, lungs are those of the HU thresholds.
    - Without an infection mask, slices that a radiologist called free of infection have none. In all others,
      lung that is denser than most is unknown, vessels too, for nobody said which of it is infected; and so is
      what lies dense around lungs by threshold, which lose consolidation.
    - Of infection drawn in part, such as only consolidation, that part is infection; all else is as without a mask,
      for viewers save no empty segments, and nobody said that there is no more.
    - In slices that a radiologist called infected, what HU thresholds find is infection: Wu et al. 2020's first
      labels, which nobody corrected.
    - Without a mask of effusion there is none: hardly anyone has any.
    """

    def label_map(self, sample: Sample) -> NDArray[np.uint8]:
        """Return labels, uint8 (slices, rows, columns)."""
        has_lung_mask = LUNG in sample.masks or all(part in sample.masks for part in UNIONS[LUNG])
        lung = sample.mask(LUNG) if has_lung_mask else threshold_lungs(sample).both.array
        labels = lung.astype(np.uint8)
        if INFECTION in sample.masks or all(part in sample.masks for part in UNIONS[INFECTION]):
            labels[sample.mask(INFECTION)] = 2
        else:
            doubtful = np.ones(len(lung), np.bool_) if sample.infected is None else sample.infected
            usual_hu = float(np.median(sample.image[lung])) if lung.any() else 0.0
            for z in np.flatnonzero(doubtful):
                labels[z][_may_be_infected(sample.image[z], lung[z], usual_hu, lung_is_sure=has_lung_mask)] = UNKNOWN
            if sample.infected is not None and sample.infected.any():
                first = segment_infection(as_volume(sample), threshold_lungs(sample)).array
                labels[first & sample.infected[:, None, None]] = 2
            for part in UNIONS[INFECTION]:
                if part in sample.masks:
                    labels[sample.masks[part]] = 2
        if PLEURAL_EFFUSION in sample.masks:
            labels[sample.masks[PLEURAL_EFFUSION]] = 3
        return labels


def threshold_lungs(sample: Sample) -> Lungs:
    """Return the lungs of a scan by HU thresholds."""
    return segment_lungs(as_volume(sample))


def as_volume(sample: Sample) -> Volume:
    """Return a sample as the worker has scans, feet to head, front to back, right to left."""
    slice_mm, row_mm, column_mm = sample.spacing_mm or (1.0, 1.0, 1.0)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slice_mm, row_mm, column_mm, 1
    geometry = Geometry((len(sample.image), *sample.image.shape[1:]), affine, "")
    return Volume(sample.image.astype(np.int16), geometry, ())


def _may_be_infected(
    hu: NDArray[np.int16] | NDArray[np.uint8], lung: NDArray[np.bool_], usual_hu: float, *, lung_is_sure: bool
) -> NDArray[np.bool_]:
    """Return the pixels of a slice that may be infection, in a scan whose lungs have a median of ``usual_hu``."""
    smoothed = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(hu.astype(np.float32)), FAINT_SIGMA)
    within: NDArray[np.bool_] = lung & (sitk.GetArrayViewFromImage(smoothed) > usual_hu + FAINT_HU)
    if lung_is_sure:
        return within
    around: NDArray[np.bool_] = _dilated(lung, PLEURA_RADIUS) & ~lung & (hu > DENSE_HU)
    return within | around


def _dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    image = sitk.BinaryDilate(sitk.GetImageFromArray(mask.astype(np.uint8)), [radius] * 2)
    return sitk.GetArrayViewFromImage(image).astype(np.bool_)
