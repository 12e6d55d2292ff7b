"""One label map for all data sets of the shipped model, whatever each of them had annotated."""

# mypy: disallow-untyped-calls=False
# SimpleITK's functions carry no types.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # the name its own documentation gives it
from numpy.typing import NDArray

from training.datasets.sample import INFECTION, LUNG, PLEURAL_EFFUSION, UNIONS, Sample
from training.target import UNKNOWN, Target
from worker.geometry import Geometry
from worker.lungs import segment_lungs
from worker.volume import Volume

AERATED_HU = -700
"""Lung below is surely not infected."""

VESSEL_RADIUS, BLUR_RADIUS = 3, 3
"""In pixels: dense structures too thin for a disc of the first are vessels; a lesion is blurred by the second."""

PLEURA_RADIUS = 20
"""In pixels: how far beyond its threshold lung a scan with infection may have consolidated lung."""


@dataclass(frozen=True)
class ChestTarget(Target):
    """Lung, infection and effusion, where parts that nobody annotated are unknown rather than absent.

    - Without a lung mask, lungs are those of the HU thresholds.
    - Without an infection mask, slices that a radiologist called free of infection have none. In all others,
      thick dense structures in the lung are unknown, and so is what lies dense around the lung, where
      consolidation is lost to the thresholds.
    """

    def label_map(self, sample: Sample) -> NDArray[np.uint8]:
        """Return labels, uint8 (slices, rows, columns)."""
        has_lung_mask = LUNG in sample.masks or all(part in sample.masks for part in UNIONS[LUNG])
        lung = sample.mask(LUNG) if has_lung_mask else threshold_lungs(sample)
        labels = lung.astype(np.uint8)
        if INFECTION in sample.masks or all(part in sample.masks for part in UNIONS[INFECTION]):
            labels[sample.mask(INFECTION)] = 2
        else:
            doubtful = np.ones(len(lung), np.bool_) if sample.infected is None else sample.infected
            for z in np.flatnonzero(doubtful):
                labels[z][_may_be_infected(sample.image[z], lung[z], lung_is_sure=has_lung_mask)] = UNKNOWN
        if PLEURAL_EFFUSION in sample.masks:
            labels[sample.masks[PLEURAL_EFFUSION]] = 3
        return labels


def threshold_lungs(sample: Sample) -> NDArray[np.bool_]:
    """Return the lungs of a scan by HU thresholds."""
    slice_mm, row_mm, column_mm = sample.spacing_mm or (1.0, 1.0, 1.0)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slice_mm, row_mm, column_mm, 1
    geometry = Geometry((len(sample.image), *sample.image.shape[1:]), affine, "")
    return segment_lungs(Volume(sample.image.astype(np.int16), geometry, ())).both.array


def _may_be_infected(
    hu: NDArray[np.int16] | NDArray[np.uint8], lung: NDArray[np.bool_], *, lung_is_sure: bool
) -> NDArray[np.bool_]:
    """Return the pixels of a slice that may be infection."""
    dense = hu > AERATED_HU
    within: NDArray[np.bool_] = _dilated(_opened(dense & lung, VESSEL_RADIUS), BLUR_RADIUS) & lung & dense
    if lung_is_sure:
        return within
    around: NDArray[np.bool_] = _dilated(lung, PLEURA_RADIUS) & ~lung & dense
    return within | around


def _opened(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    image = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(mask.astype(np.uint8)), [radius] * 2)
    return sitk.GetArrayViewFromImage(image).astype(np.bool_)


def _dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    image = sitk.BinaryDilate(sitk.GetImageFromArray(mask.astype(np.uint8)), [radius] * 2)
    return sitk.GetArrayViewFromImage(image).astype(np.bool_)
