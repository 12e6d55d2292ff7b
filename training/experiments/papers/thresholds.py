"""Wu et al. 2020, "Use the value of HU" and figure 9: lungs and infection by thresholds alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """Return the measures of lungs and infection at the best threshold of each, and the mean Dice at all thresholds.

    The lung is every pixel below a threshold, without the air around the body. The infection is the best lung mask
    without the pixels below a second, lower threshold. The best threshold has the highest mean Dice over patients. The
    short form takes every tenth slice.
    """
    samples = list(datasets.read(DATA, data))[:: 10 if short else 1]
    lungs = {t: count_patients((s, below(s, t), s.mask(LUNG)) for s in samples) for t in THRESHOLDS_HU}
    lung_hu = best_threshold(lungs)
    lung_masks = [below(sample, lung_hu) for sample in samples]
    infections = {
        t: count_patients(
            (s, lung & ~below(s, t), s.mask(INFECTION)) for s, lung in zip(samples, lung_masks, strict=True)
        )
        for t in THRESHOLDS_HU
        if t < lung_hu
    }
    return measure_structure(LUNG, lungs) | measure_structure(INFECTION, infections)


def count_patients(cases: Iterator[tuple[Sample, NDArray[np.bool_], NDArray[np.bool_]]]) -> list[Confusion]:
    """Return each patient's counts over all slices (sample, predicted, true)."""
    totals: dict[str | None, Confusion] = {}
    for sample, predicted, true in cases:
        totals[sample.patient] = totals.get(sample.patient, Confusion()) + Confusion.of(predicted, true)
    return list(totals.values())


def mean_dice(patients: Sequence[Confusion]) -> float:
    """Return the mean Dice over patients."""
    return Spread.of(patient.dice for patient in patients).mean


def best_threshold(sweep: Mapping[int, Sequence[Confusion]]) -> int:
    """Return the threshold with the highest mean Dice."""
    return max(sweep, key=lambda threshold: mean_dice(sweep[threshold]))


def measure_structure(name: str, sweep: Mapping[int, Sequence[Confusion]]) -> dict[str, float]:
    """Return the measures of a structure at its best threshold, and the mean Dice at all."""
    best = best_threshold(sweep)
    whole = sum(sweep[best], Confusion())
    figures = {
        "dice_per_case": mean_dice(sweep[best]),
        "threshold_hu": float(best),
        "dice_global": whole.dice,
        "sensitivity": whole.sensitivity,
        "specificity": whole.specificity,
        "precision": whole.precision,
        "g_mean": whole.g_mean,
        "f2": whole.f2,
        **{f"dice_per_case at {threshold} HU": mean_dice(patients) for threshold, patients in sweep.items()},
    }
    return {f"{name}/{measure}": value for measure, value in figures.items()}


def below(sample: Sample, threshold_hu: float) -> NDArray[np.bool_]:
    """Return the pixels below a threshold, without components that reach a slice's corner: air around the body."""
    return np.stack([_without_corners(plane < threshold_hu) for plane in sample.image])


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
