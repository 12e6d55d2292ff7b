import io
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dicom_node.errors import SettingsError
from tests.training.synthetic import RECIPE, SIZE, disc_sample
from training import datasets
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiment import Experiment, Short
from training.experiments.papers import cases, classifier, wu
from training.fit.processes import Processes
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
    monkeypatch.setattr(classifier, "RECIPE", replace(classifier.RECIPE, epochs=1, steps_per_epoch=2, batch_size=16))
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
    assert f"AUC {figures['classifier/auc']:.3f}" in (folder / "roc.svg").read_text()


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected the run wu-infection-unet"):
        classifier.measure(partial(cases.find_wu_cases, "unet"), tmp_path, tmp_path / "wu-classifier", short=True)


def test_networks_that_found_too_little_to_learn_from_are_told_to_train_longer() -> None:
    with pytest.raises(SettingsError, match="too few candidates: train them longer"):
        classifier.train_classifier([], seed=0)


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
