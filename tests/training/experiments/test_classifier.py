import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dicom_node.errors import SettingsError
from tests.training.synthetic import RECIPE, SIZE, disc_sample
from training import datasets
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiment import Experiment, Short
from training.experiments import classifier, wu
from training.preprocess import Preprocess
from training.processes import Processes
from training.splits import KFold
from training.target import Target
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


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def read(folder: Path) -> Iterator[Sample]:
        return (disc_sample(i, patient=f"p{i}", slices=10) for i in range(3))

    monkeypatch.setattr(datasets, "READERS", {"discs": read})
    monkeypatch.setattr(wu, "EXPERIMENTS", (tiny(INFECTION), tiny(LUNG)))
    monkeypatch.setattr(classifier, "RECIPE", replace(classifier.RECIPE, epochs=1, steps_per_epoch=2, batch_size=16))
    torch.set_num_threads(1)
    for experiment in wu.EXPERIMENTS:
        Trial(
            experiment,
            tmp_path,
            tmp_path / experiment.name,
            short=False,
            seed=0,
            processes=Processes(0, 1, torch.device("cpu")),
            console=Console(file=io.StringIO()),
        ).train()
    return tmp_path


def test_every_patient_is_judged_before_and_after_the_classifier(runs: Path) -> None:
    figures = classifier.measure("unet", runs, runs, short=False)
    assert figures["classifier/candidates"] > 0
    assert 0 <= figures["before/infection/dice_per_case"] <= 1
    assert 0 <= figures["after/infection/dice_per_case"] <= 1
    assert figures["before/poir/mae_points"] >= 0
    assert math.isfinite(figures["before/poir/m_ape"])


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected the run wu-infection-unet"):
        classifier.measure("unet", tmp_path, tmp_path, short=True)
