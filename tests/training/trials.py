"""Trials that take seconds, on discs of six patients."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from tests.training.synthetic import RECIPE, SIZE, disc_sample
from training.datasets.sample import INFECTION, Sample
from training.experiment import Experiment, Published, Short
from training.fit.processes import Processes
from training.prepare.preprocess import Preprocess
from training.prepare.splits import KFold
from training.prepare.target import Target
from training.trial import Trial

DISCS = Experiment(
    name="discs",
    paper="nobody",
    data=("discs",),
    target=Target.of(INFECTION),
    preprocess=Preprocess((SIZE, SIZE)),
    network="unet",
    arguments={"classes": 2, "width": 4, "depth": 1, "batch_norm": True},
    recipe=replace(RECIPE, epochs=60),
    split=KFold(folds=3, validation=0.2),
    short=Short(epochs=2),
    published=(Published("infection/dice_global", 0.7, "table 1"),),
)


def read_discs(_folder: Path) -> Iterator[Sample]:
    """Yield two discs of each patient."""
    return (disc_sample(i, patient=f"p{i // 2}") for i in range(12))


def trial(
    folder: Path,
    *,
    experiment: Experiment = DISCS,
    short: bool = False,
    seed: int = 0,
    splits: list[int] | None = None,
    rank: int = 0,
) -> Trial:
    """Return a trial on discs, whose data folder is ``folder`` and whose run folder is ``run`` in it."""
    return Trial(
        experiment,
        folder,
        folder / "run",
        short=short,
        seed=seed,
        processes=Processes(rank, 1, torch.device("cpu")),
        console=Console(file=io.StringIO()),
        splits=splits,
    )
