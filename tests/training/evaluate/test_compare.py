import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric
from numpy.typing import NDArray
from sklearn import metrics as sk

from tests.training.synthetic import discs, tiny_network
from training.evaluate.compare import Judged, judge, measure, sweep_thresholds, tuned_dice
from training.evaluate.metrics import Confusion
from training.prepare.examples import Stacking
from training.prepare.prepared import Prepared
from training.prepare.target import UNKNOWN


def judged(predicted: NDArray[np.uint8], true: NDArray[np.uint8], scan: str = "a") -> Judged:
    samples = tuple(
        Prepared(scan, "source", None, scan, number, np.zeros((1, *plane.shape), np.float16), plane[None], 1.0)
        for number, plane in enumerate(true)
    )
    return Judged(scan, samples, predicted, true, seconds=0.5)


@pytest.fixture
def scans() -> list[Judged]:
    random = np.random.default_rng(0)
    return [judged(*(random.integers(0, 3, (12, 8, 8)).astype(np.uint8) for _ in range(2)), scan=name) for name in "ab"]


def test_global_dice_is_of_all_scans_together_and_dice_per_case_a_mean(scans: list[Judged]) -> None:
    measures = measure(scans, ("background", "lung", "infection"))
    cases = [Confusion.of(s.predicted == 2, s.true == 2) for s in scans]
    assert measures["infection/dice_global"] == (cases[0] + cases[1]).dice
    assert measures["infection/dice_per_case"] == pytest.approx((cases[0].dice + cases[1].dice) / 2)


def test_each_kind_of_dice_is_monais(scans: list[Judged]) -> None:
    def monais(kind: str) -> torch.Tensor:
        """Return one class of both scans, (scans, 1, slices, rows, columns)."""
        return torch.from_numpy(np.stack([getattr(scan, kind) == 2 for scan in scans]))[:, None]

    measures = measure(scans, ("background", "lung", "infection"))
    predicted, true = monais("predicted"), monais("true")
    ways = {
        "dice_per_case": (predicted, true),
        "dice_global": (predicted.flatten()[None, None], true.flatten()[None, None]),
        "dice_per_image": (predicted.flatten(0, 2)[:, None], true.flatten(0, 2)[:, None]),
    }
    for name, masks in ways.items():
        dice = DiceMetric()
        dice(*masks)
        assert measures[f"infection/{name}"] == pytest.approx(float(dice.aggregate()))


def test_accuracy_is_scikit_learns(scans: list[Judged]) -> None:
    measures = measure(scans, ("background", "lung", "infection"))
    images = [pair for scan in scans for pair in zip(scan.true, scan.predicted, strict=True)]
    theirs = [sk.accuracy_score(true.ravel(), predicted.ravel()) for true, predicted in images]
    assert measures["accuracy_per_image"] == pytest.approx(statistics.mean(theirs))
    assert measures["accuracy_per_image_sd"] == pytest.approx(statistics.stdev(theirs))


def test_it_is_told_over_how_many_cases_dice_per_case_is_a_mean(scans: list[Judged]) -> None:
    healthy = np.zeros((12, 8, 8), np.uint8)
    measures = measure([*scans, judged(healthy, healthy, scan="c")], ("background", "lung", "infection"))
    assert measures["infection/cases"] == 2


def test_nothing_is_said_of_a_class_that_no_scan_shows(scans: list[Judged]) -> None:
    measures = measure(scans, ("background", "lung", "infection", "pleural_effusion"))
    found = [replace(scan, predicted=np.full_like(scan.predicted, 3)) for scan in scans]
    for figures in (measures, measure(found, ("background", "lung", "infection", "pleural_effusion"))):
        assert not any(name.startswith("pleural_effusion/") for name in figures)


def test_dice_per_image_is_a_mean_over_slices(scans: list[Judged]) -> None:
    slices = [Confusion.of(p == 1, t == 1).dice for s in scans for p, t in zip(s.predicted, s.true, strict=True)]
    assert measure(scans, ("background", "lung", "infection"))["lung/dice_per_image"] == pytest.approx(np.mean(slices))


def test_accuracy_is_a_mean_over_images_of_all_classes() -> None:
    true = np.zeros((2, 2, 2), np.uint8)
    predicted = true.copy()
    predicted[1] = 1
    measures = measure([judged(predicted, true)], ("background", "infection"))
    assert measures["accuracy_per_image"] == 0.5
    assert measures["accuracy_per_image_sd"] == pytest.approx(np.std([1, 0], ddof=1))


def test_unknown_pixels_count_in_no_measure() -> None:
    true = np.array([[[0, 1, UNKNOWN, UNKNOWN]]], np.uint8)
    predicted = np.array([[[1, 1, UNKNOWN, UNKNOWN]]], np.uint8)
    measures = measure([judged(predicted, true)], ("background", "infection"))
    assert measures["accuracy_per_image"] == 0.5
    assert measures["infection/specificity"] == 0.0


def test_area_plots_need_ten_slices() -> None:
    short = np.ones((9, 2, 2), np.uint8)
    assert np.isnan(measure([judged(short, short)], ("background", "infection"))["infection/area_plot_likeness"])


def test_no_threshold_is_tuned_where_there_is_nothing_to_find(tmp_path: Path) -> None:
    prepared = discs(tmp_path)
    healthy = [replace(sample, labels=np.zeros_like(sample.labels)) for sample in prepared[:2]]
    tuned = tuned_dice(tiny_network(), Stacking(), healthy, prepared[2:4])
    assert [math.isnan(value) for value in tuned.values()] == [True, True]


def test_area_plots_weigh_slices_that_were_cropped_differently_by_the_size_of_their_pixels() -> None:
    mask = np.ones((10, 2, 2), np.uint8)
    scan = judged(mask, mask)
    tight = replace(scan, samples=(replace(scan.samples[0], voxel_ml=0.1), *scan.samples[1:]))
    measures = measure([tight], ("background", "infection"))
    assert measures["infection/area_plot_roughness"] == pytest.approx(0.1)
    assert measures["infection/area_plot_likeness"] == 1


def test_the_tuned_threshold_is_the_best_of_the_validation_part(tmp_path: Path) -> None:
    prepared = discs(tmp_path, count=6)
    validation, test = prepared[:3], prepared[3:]
    network = tiny_network()
    tuned = tuned_dice(network, Stacking(), validation, test)
    seen = {t: c.dice for t, c in sweep_thresholds(network, Stacking(), validation).items()}
    assert seen[tuned["threshold"]] == max(seen.values())
    assert tuned["dice_global"] == sweep_thresholds(network, Stacking(), test)[tuned["threshold"]].dice


def test_a_sweep_counts_what_a_fixed_threshold_counts(tmp_path: Path) -> None:
    prepared = discs(tmp_path, count=3)
    network = tiny_network(classes=1)
    judged_masks = judge(network, Stacking(), prepared, threshold=0.5)
    counts = [Confusion.of(j.predicted == 1, j.true == 1) for j in judged_masks]
    assert sweep_thresholds(network, Stacking(), prepared)[0.5] == counts[0] + counts[1] + counts[2]
