import io
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats
from sklearn.metrics import mean_absolute_percentage_error

from dicom_node.errors import SettingsError
from tests.training.synthetic import RECIPE, SIZE, disc_sample
from training import datasets
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiment import Experiment, Short
from training.experiments.papers import candidate_training, cases, classifier, wu
from training.experiments.papers.cases import Case
from training.fit.processes import Processes
from training.prepare.patches import find_patches
from training.prepare.preprocess import Preprocess
from training.prepare.splits import KFold
from training.prepare.target import Target
from training.trial import Trial


def tiny(structure: str) -> Experiment:
    return Experiment(
        name=f"wu-{structure}-unet",
        paper="nobody",
        data=("discs",),
        target=Target.of(structure),
        preprocess=Preprocess((SIZE, SIZE)),
        network="unet",
        arguments={"width": 4, "depth": 1, "batch_norm": True},
        recipe=replace(RECIPE, epochs=2, steps_per_epoch=8),
        split=KFold(folds=3, validation=0.2),
        short=Short(epochs=1),
    )


@pytest.fixture(autouse=True)
def short_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(candidate_training.RECIPE, epochs=1, steps_per_epoch=2, batch_size=16)
    monkeypatch.setattr(candidate_training, "RECIPE", recipe)
    torch.set_num_threads(1)


def train(experiment: Experiment, runs: Path) -> None:
    Trial(
        experiment,
        runs,
        runs / experiment.name,
        short=False,
        seed=0,
        processes=Processes(0, 1, torch.device("cpu")),
        console=Console(file=io.StringIO()),
    ).train()


@pytest.fixture
def discs(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_folder: Path) -> Iterator[Sample]:
        return (replace(disc_sample(i, patient=f"p{i}", slices=10), source="infection-slices") for i in range(3))

    monkeypatch.setattr(datasets, "READERS", {"discs": read})


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, discs: None) -> Path:
    monkeypatch.setattr(wu, "EXPERIMENTS", (tiny(INFECTION), tiny(LUNG)))
    for experiment in wu.EXPERIMENTS:
        train(experiment, tmp_path)
    return tmp_path


def test_every_patient_is_judged_before_and_after_the_classifier(runs: Path) -> None:
    folder = runs / "wu-classifier"
    folder.mkdir()
    figures = classifier.measure(partial(cases.find_wu_cases, "unet"), runs, folder, short=False)
    assert figures["classifier/candidates"] > 0
    assert 0 <= figures["before/infection/dice_per_case"] <= 1
    assert 0 <= figures["after/infection/dice_per_case"] <= 1
    assert figures["before/poir/mae_points"] >= 0
    assert math.isfinite(figures["before/poir/m_ape"])
    assert figures["classifier/loss_first"] == figures["classifier/loss_last"] > 0  # its only epoch
    assert f"AUC {figures['classifier/auc']:.3f}" in (folder / "roc.svg").read_text()


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected the run wu-infection-unet"):
        classifier.measure(partial(cases.find_wu_cases, "unet"), tmp_path, tmp_path / "wu-classifier", short=True)


def test_lung_and_infection_of_one_network_are_judged_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, discs: None
) -> None:
    both = replace(
        tiny(INFECTION),
        name="chest-folds-2d",
        target=Target.of(LUNG, INFECTION),
        arguments={"classes": 3, "width": 4, "depth": 1, "batch_norm": True},
    )
    monkeypatch.setattr(cases, "FOLDS_2D", both)
    train(both, tmp_path)
    found = cases.find_chest_cases(tmp_path, tmp_path, False)
    assert {case.scan for case in found} == {"disc-0", "disc-1", "disc-2"}
    assert all((case.true_infection <= case.true_lung).all() for case in found)
    assert all((case.infection <= case.lung).all() for case in found)


SLICES = 10


def strip(first: int, last: int) -> NDArray[np.bool_]:
    """Return a mask of some columns of ten slices of 4 x 20."""
    mask = np.zeros((SLICES, 4, 20), np.bool_)
    mask[:, :, first:last] = True
    return mask


def case(found: NDArray[np.bool_], true: NDArray[np.bool_], **others: Any) -> Case:
    fields = {
        "split": 0,
        "found_by": "a",
        "scan": "a",
        "lung": strip(0, 20),
        "true_lung": strip(0, 20),
        "pixel_volumes": np.ones(SLICES),
        "candidates": find_patches(np.zeros(found.shape, np.float16), found, true),
    }
    return Case(infection=found, true_infection=true, **(fields | others))


def test_candidates_that_score_below_the_threshold_are_removed() -> None:
    two = case(strip(0, 4) | strip(10, 13), strip(0, 4))
    infected, other = 0.7, 0.3
    scores = np.array([infected if c.is_infection else other for c in two.candidates])
    assert np.array_equal(classifier.filtered(two, scores, 0.5), strip(0, 4))
    assert np.array_equal(classifier.filtered(two, scores, other), strip(0, 4) | strip(10, 13))


def test_poir_is_infection_within_the_lung_found_by_the_slices_volumes() -> None:
    volumes = np.arange(1.0, SLICES + 1)
    half_lung = case(strip(4, 10), strip(4, 10), lung=strip(0, 8), pixel_volumes=volumes)
    assert classifier.poir(half_lung, half_lung.infection, half_lung.lung) == pytest.approx(50)
    first_only = half_lung.infection & (np.arange(SLICES) == 0)[:, None, None]
    assert classifier.poir(half_lung, first_only, half_lung.lung) == pytest.approx(50 * 1 / 55)


def test_poir_found_is_compared_with_the_true_one() -> None:
    found, true = (10, 6, 5, 1), (8, 4, 2, 2)  # columns of 20 that are infected, of 16 in the lung that was found
    lung = strip(0, 16)
    cases = [case(strip(0, f), strip(0, t), lung=lung) for f, t in zip(found, true, strict=True)]
    cases.append(case(strip(0, 1)[:9], strip(0, 1)[:9], lung=lung[:9]))  # too few slices to count
    figures = classifier.compare_poir(cases, [c.infection for c in cases])
    predicted, truth = 100 * np.array(found) / 16, 100 * np.array(true) / 20
    assert figures["pearson_r"] == pytest.approx(stats.pearsonr(predicted, truth).statistic)
    assert figures["m_ape"] == pytest.approx(100 * mean_absolute_percentage_error(truth, predicted))
    assert figures["mae_points"] == pytest.approx(np.abs(predicted - truth).mean())
    assert figures["bias_points"] == pytest.approx((predicted - truth).mean())
    assert figures["bias_points"] > 0
    deviation = (predicted - truth).std(ddof=1)
    assert figures["lower_limit_points"] == pytest.approx((predicted - truth).mean() - 1.96 * deviation)
    assert figures["upper_limit_points"] == pytest.approx((predicted - truth).mean() + 1.96 * deviation)


def test_single_slices_have_no_poir() -> None:
    single = case(strip(0, 4)[:1], strip(0, 4)[:1], lung=strip(0, 20)[:1])
    assert classifier.compare_poir([single], [single.infection]) == {}


def test_wus_lungs_and_infection_come_from_the_networks_of_each(runs: Path) -> None:
    found = {c.scan: c for c in cases.find_wu_cases("unet", runs, runs, False)}
    trials = {s: cases.open_trial(f"wu-{s}-unet", runs, runs, False) for s in (LUNG, INFECTION)}
    for split in trials[LUNG].finished():
        for judged in trials[LUNG].judge(split):
            assert np.array_equal(found[judged.scan].lung, judged.predicted > 0)
            assert np.array_equal(found[judged.scan].true_lung, judged.true > 0)
            assert found[judged.scan].split == split
        for judged in trials[INFECTION].judge(split):
            assert np.array_equal(found[judged.scan].infection, judged.predicted > 0)
            assert np.array_equal(found[judged.scan].true_infection, judged.true > 0)
