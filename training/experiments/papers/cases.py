"""Scans with their candidate regions, on which the classifier of Wu et al. 2020 is trained and judged.

Needs the runs ``wu-infection-...`` and ``wu-lung-...`` beside the classifier's own, or ``chest-folds-2d``. Candidates
come from the test part of each split: the networks have not seen the patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from dicom_node.errors import SettingsError
from training.datasets.sample import INFECTION, LUNG
from training.evaluate.compare import Judged
from training.experiments.chest.network import FOLDS_2D
from training.experiments.earlier_run import earlier_run
from training.experiments.papers import wu
from training.files import read_json
from training.fit.device import choose_device
from training.fit.processes import Processes
from training.prepare.patches import CandidatePatch, find_patches
from training.prepare.prepared import pixel_volumes
from training.trial import Trial
from worker.networks.card import read_card

LungAndInfection = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Two masks of one scan, (slices, rows, columns) each."""


@dataclass(frozen=True, eq=False)
class Case:
    """A scan that its split did not train on: masks (slices, rows, columns), each slice's voxel volume, candidates.

    ``found_by`` is the hash of the weights that found the infection.
    """

    split: int
    found_by: str
    scan: str
    lung: NDArray[np.bool_]
    true_lung: NDArray[np.bool_]
    infection: NDArray[np.bool_]
    true_infection: NDArray[np.bool_]
    pixel_volumes: NDArray[np.float64]
    candidates: list[CandidatePatch]


def find_wu_cases(network: str, data: Path, runs: Path, short: bool) -> list[Case]:
    """Predict lungs and infection of every scan by the networks of the split that tested it.

    ``network`` is ``unet`` or ``unet-2.5d``.
    """
    infection, lungs = (open_trial(f"wu-{s}-{network}", data, runs, short) for s in (INFECTION, LUNG))
    if [p.name for p in infection.prepared] != [p.name for p in lungs.prepared] or infection.splits != lungs.splits:
        raise SettingsError("other-splits", "the runs of lungs and infection have other splits; use one seed")
    cases = []
    for split in infection.finished():
        judged_lungs = {j.scan: j for j in lungs.judge(split)}
        for judged in infection.judge(split):
            lung = judged_lungs[judged.scan]
            found, true = (lung.predicted > 0, judged.predicted > 0), (lung.true > 0, judged.true > 0)
            cases.append(make_case(split, weights_of(infection, split), judged, found, true))
    return cases


def find_chest_cases(data: Path, runs: Path, short: bool) -> list[Case]:
    """Predict every scan with masks by the fold of ``chest-folds-2d`` that tested it."""
    trial = open_trial(FOLDS_2D.name, data, runs, short)
    lung, infection = (trial.experiment.target.names.index(name) for name in (LUNG, INFECTION))
    return [
        make_case(
            split,
            weights_of(trial, split),
            judged,
            found=((judged.predicted == lung) | (judged.predicted == infection), judged.predicted == infection),
            true=((judged.true == lung) | (judged.true == infection), judged.true == infection),
        )
        for split in trial.finished()
        for judged in trial.judge(split)
        if judged.samples[0].source == "infection-slices"
    ]


def weights_of(trial: Trial, split: int) -> str:
    """Return the hash of a split's weights."""
    return read_card(trial.folder / f"split-{split}" / "weights.json").weights_sha256


def make_case(split: int, found_by: str, judged: Judged, found: LungAndInfection, true: LungAndInfection) -> Case:
    """Cut the candidates out of a scan."""
    return Case(
        split=split,
        found_by=found_by,
        scan=judged.scan,
        lung=found[0],
        true_lung=true[0],
        infection=found[1],
        true_infection=true[1],
        pixel_volumes=pixel_volumes(judged.samples),
        candidates=find_patches(np.concatenate([s.image for s in judged.samples]), found[1], true[1]),
    )


def open_trial(name: str, data: Path, runs: Path, short: bool) -> Trial:
    """Return the trial of an earlier run."""
    folder = earlier_run(runs, name, short)
    content = read_json(folder / "trial.json")
    return Trial(
        next(e for e in (*wu.EXPERIMENTS, FOLDS_2D) if e.name == name),
        data,
        folder,
        short=content["short"],
        seed=content["seed"],
        processes=Processes(0, 1, choose_device()),
        console=Console(quiet=True),
    )
