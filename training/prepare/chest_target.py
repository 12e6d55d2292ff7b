"""Label maps for the shipped network, the same for all data sets whichever structures each of them has annotated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from training.datasets.sample import INFECTION, LUNG, PLEURAL_EFFUSION, UNIONS, Sample
from training.prepare.target import UNKNOWN, Target
from worker.findings import Lungs
from worker.geometry import Geometry
from worker.infection import segment_infection
from worker.lungs import segment_lungs
from worker.volume import Volume

FAINT_HU, FAINT_SIGMA = 60, 2.0
"""Lung that is so many HU above the scan's median, smoothed with a sigma of so many pixels, may be ground glass."""

DENSE_HU = -700
"""Denser pixels around lungs that were found by threshold may be consolidated lung."""

PLEURA_RADIUS = 20
"""In pixels: how far outside lungs that were found by threshold there may be consolidated lung."""


@dataclass(frozen=True)
class ChestTarget(Target):
    """Lung, infection and effusion; lung and infection that nobody annotated are unknown where they may be, not absent.

    - Without a lung mask, the lungs are those found by HU thresholds.
    - Without an infection mask, slices that a radiologist called free of infection have none. In all other slices,
      lung that is denser than most, vessels included, is unknown, because nobody said which of it is infected. So is
      dense tissue around lungs found by threshold, because thresholds miss consolidation.
    - If only a part of infection was drawn, such as consolidation, that part is infection. All else is treated as if
      there were no mask: viewers save no empty segments, so nobody said that there is no more infection.
    - In slices that a radiologist called infected, infection found by HU thresholds counts as infection. These are the
      first labels of Wu et al. 2020, which nobody corrected.
    - Without a mask of effusion there is no effusion, because hardly any patient has it.
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
    """Return the lungs of a scan as found by HU thresholds."""
    return segment_lungs(as_volume(sample))


def as_volume(sample: Sample) -> Volume:
    """Return a sample as a volume of the worker, whose axes run feet to head, front to back, right to left."""
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
