from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from training import datasets
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiments.papers import thresholds


def chest(patient: str) -> Sample:
    """Return a slice with air, soft tissue, a lung of -850 HU, and in this a lesion of -500 HU."""
    hu = np.full((1, 40, 40), -1000, np.int16)
    lung, infection = np.zeros((2, 1, 40, 40), np.bool_)
    hu[:, 4:36, 4:36] = 40
    lung[:, 10:30, 10:30] = True
    infection[:, 12:18, 12:18] = True
    hu[lung], hu[infection] = -850, -500
    return Sample(patient, "test", patient, patient, 0, hu, "hu", {LUNG: lung, INFECTION: infection})


def test_the_sweep_finds_the_thresholds_that_divide_air_lesion_and_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        return (chest(name) for name in "ab")

    monkeypatch.setattr(datasets, "READERS", {thresholds.DATA: read})
    figures = thresholds.measure(Path(), Path(), short=False)
    assert figures["lung/dice_per_case"] == figures["infection/dice_per_case"] == 1
    assert -500 < figures["lung/threshold_hu"] <= 0
    assert -850 < figures["infection/threshold_hu"] <= -500
    assert [figures[f"lung/dice_per_case at {t} HU"] for t in (-800, -50)] == [pytest.approx(728 / 764), 1]


def test_the_other_measures_are_those_at_the_best_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = chest("c")
    wrong.masks[INFECTION][:, 30:33, 10:13] = True  # 9 pixels of soft tissue outside the lung, never found

    monkeypatch.setattr(datasets, "READERS", {thresholds.DATA: lambda folder: iter((chest("a"), wrong))})
    figures = thresholds.measure(Path(), Path(), short=False)
    assert figures["infection/dice_per_case"] == pytest.approx((1 + 2 * 36 / (36 + 45)) / 2)
    assert figures["infection/dice_global"] == pytest.approx(2 * 72 / (72 + 81))
    assert figures["infection/sensitivity"] == pytest.approx(72 / 81)
    assert figures["infection/specificity"] == figures["infection/precision"] == 1
    assert figures["infection/g_mean"] == pytest.approx((72 / 81) ** 0.5)
    assert figures["infection/f2"] == pytest.approx(5 * 72 / (5 * 72 + 4 * 9))
