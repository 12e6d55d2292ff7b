"""Let the folds' networks read the patients that they never saw, slice by slice.

Each slice is read as the worker reads it. What the worker then removes in 3D is not removed: the slices with masks are
cropped one by one and do not form a volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training import datasets
from training.claim import finished_splits
from training.datasets.sample import Sample
from training.experiments.chest.network import FOLDS
from training.experiments.earlier_run import earlier_run
from training.files import read_json
from worker.chest_network import INFECTED, WHOLE_LUNG, ChestNetwork
from worker.log_odds import Agreement, probability
from worker.models.store import weights_at
from worker.slabs import Slabs


@dataclass(frozen=True)
class Fold:
    """A fold's network, and the names of the patients that it never saw."""

    network: ChestNetwork
    tested: frozenset[str]


@dataclass(frozen=True, eq=False)
class Read:
    """A slice with masks, what was found in it, and how that agrees with its mirror image.

    Parameters
    ----------
    lung : ndarray of bool, shape (1, rows, columns)
    infection : ndarray of float16, same shape
        Probability of infection, 0 outside the lung.
    threshold : float
        Probability from which a pixel counts as infection.
    """

    sample: Sample
    lung: NDArray[np.bool_]
    infection: NDArray[np.float16]
    agreement: Agreement
    threshold: float

    @property
    def patient(self) -> str:
        """Whose slice it is."""
        return self.sample.patient or self.sample.name

    @cached_property
    def infected(self) -> NDArray[np.bool_]:
        """The pixels that count as infection, bool (1, rows, columns)."""
        mask: NDArray[np.bool_] = self.infection >= self.threshold
        return mask


def open_folds(runs: Path, short: bool) -> list[Fold]:
    """Return the folds of the run of the shipped network's recipe."""
    return [Fold(open_fold(weights), tested) for weights, tested in fold_weights(runs, FOLDS.name, short)]


def open_fold(weights: Path) -> ChestNetwork:
    """Return the network of a fold."""
    with weights_at(weights, "weights of an earlier run"):
        return ChestNetwork.open(weights)


def fold_weights(runs: Path, name: str, short: bool) -> list[tuple[Path, frozenset[str]]]:
    """Return the weights of the folds of a run, each with the names of the patients that it never saw."""
    folders = finished_splits(earlier_run(runs, name, short)).values()
    return [
        (folder / "weights.safetensors", frozenset(read_json(folder / "result.json")["tested"])) for folder in folders
    ]


def kept_aside(fold: Fold, data: Path) -> list[Sample]:
    """Return the slices with masks, of patients that the fold's network never saw."""
    return [sample for sample in datasets.read("infection-slices", data) if sample.patient in fold.tested]


def read(network: ChestNetwork, sample: Sample) -> Read:
    """Find lung and infection in a slice that was cropped to the chest."""
    hu, agreement = sample.image.astype(np.int16), Agreement()
    frame = network.frame(slice(0, hu.shape[1]), slice(0, hu.shape[2]))
    answers = network.read_twice(hu, Slabs(len(hu)), frame, agreement, WHOLE_LUNG, INFECTED)
    whole_lung, infected = (np.stack([frame.place(answer) for answer in answers[:, asked]]) for asked in (0, 1))
    lung = whole_lung >= 0
    infection = (probability(infected) * lung).astype(np.float16)
    return Read(sample, lung, infection, agreement, network.card.threshold)


def read_folds(folds: Sequence[Fold], data: Path, every: int) -> list[Read]:
    """Read, with each fold, one in ``every`` slices of the patients that it never saw."""
    return [read(fold.network, sample) for fold in folds for sample in kept_aside(fold, data)[::every]]
