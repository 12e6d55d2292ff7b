"""Wu et al. 2020, "Use the value of HU" and figure 9: lungs and infection by thresholds alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from training import datasets
from training.datasets.sample import INFECTION, LUNG, Sample
from training.evaluate.metrics import Confusion, Spread
from training.experiment import Benchmark, Published

THRESHOLDS_HU = range(-800, 1, 50)
DATA = "infection-slices"


def measure(data: Path, folder: Path, short: bool) -> dict[str, float]:
    """Return the mean Dice over patients of lungs and infection at each threshold, and the best with its threshold.

    The lung is every pixel below a threshold, without the air around the body. The infection is the best lung mask
    without the pixels below a second, lower threshold. The short form takes every tenth slice.
    """
    samples = list(datasets.read(DATA, data))[:: 10 if short else 1]
    lung_scores = {t: mean_dice((s, below(s, t), s.mask(LUNG)) for s in samples) for t in THRESHOLDS_HU}
    lung_hu = max(lung_scores, key=lung_scores.__getitem__)
    lungs = [below(sample, lung_hu) for sample in samples]
    infection_scores = {
        t: mean_dice((s, lung & ~below(s, t), s.mask(INFECTION)) for s, lung in zip(samples, lungs, strict=True))
        for t in THRESHOLDS_HU
        if t < lung_hu
    }
    infection_hu = max(infection_scores, key=infection_scores.__getitem__)
    return {
        f"{LUNG}/dice_per_case": lung_scores[lung_hu],
        f"{LUNG}/threshold_hu": lung_hu,
        f"{INFECTION}/dice_per_case": infection_scores[infection_hu],
        f"{INFECTION}/threshold_hu": infection_hu,
        **{f"{LUNG}/dice_per_case at {t} HU": dice for t, dice in lung_scores.items()},
        **{f"{INFECTION}/dice_per_case at {t} HU": dice for t, dice in infection_scores.items()},
    }


def below(sample: Sample, threshold_hu: float) -> NDArray[np.bool_]:
    """Return the pixels below a threshold, without components that reach a slice's corner: air around the body."""
    return np.stack([_without_corners(plane < threshold_hu) for plane in sample.image])


def mean_dice(cases: Iterator[tuple[Sample, NDArray[np.bool_], NDArray[np.bool_]]]) -> float:
    """Return the mean over patients of the Dice of all their slices (sample, predicted, true)."""
    totals: dict[str | None, Confusion] = {}
    for sample, predicted, true in cases:
        totals[sample.patient] = totals.get(sample.patient, Confusion()) + Confusion.of(predicted, true)
    return Spread.of(total.dice for total in totals.values()).mean


def _without_corners(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    components = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))
    corners = components[[0, 0, -1, -1], [0, -1, 0, -1]]
    kept: NDArray[np.bool_] = mask & ~np.isin(components, corners[corners > 0])
    return kept


BENCHMARKS = (
    Benchmark(
        name="wu-thresholds",
        paper="Wu et al. 2020, table 1 and figure 9",
        measure=measure,
        short_form="every tenth slice",
        published=(
            # The paper gives two figures for the same lung masks.
            Published(f"{LUNG}/dice_per_case", 0.921, 'text, "Segment the intact lung"'),
            Published(f"{LUNG}/dice_per_case", 0.941, "table 1"),
            Published(f"{LUNG}/threshold_hu", -200, "table 1"),
            Published(f"{INFECTION}/dice_per_case", 0.530, "table 1"),
            Published(f"{INFECTION}/threshold_hu", -750, "table 1"),
        ),
        differs="cropped slices of 9 patients in estimated HU; air that reaches a corner of a slice is removed",
    ),
)
