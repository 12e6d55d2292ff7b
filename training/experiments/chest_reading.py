"""The folds' networks read whom they never saw, as the worker does, and say from which probability on is infection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from training import datasets
from training.datasets.sample import INFECTION, Sample
from training.experiments.shipped import FOLDS
from training.files import read_json
from training.metrics import Confusion, Spread
from worker.chest_network import INFECTED, WHOLE_LUNG, Agreement, ChestNetwork, probability
from worker.slabs import Slabs

THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True)
class Fold:
    """A network, and the names of those that it never saw."""

    network: ChestNetwork
    tested: frozenset[str]

    def at(self, threshold: float) -> ChestNetwork:
        """Return the network with another threshold."""
        return replace(self.network, card=replace(self.network.card, threshold=threshold))


@dataclass(frozen=True, eq=False)
class Read:
    """A slice with masks, what was found in it, and how that agrees with its mirror image.

    Parameters
    ----------
    lung : ndarray of bool, shape (1, rows, columns)
    infection : ndarray of float16, same shape
        Probability of infection, 0 outside the lung.
    threshold : float
        From which it counts.
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
        """What counts as infection."""
        mask: NDArray[np.bool_] = self.infection >= self.threshold
        return mask


def finished_folds(runs: Path) -> list[Fold]:
    """Return the folds of the run that are trained."""
    folders = sorted(path.parent for path in (runs / FOLDS.name).glob("split-*/result.json"))
    if not folders:
        raise SettingsError("missing-run", f"expected the run {FOLDS.name} in {runs}; train it first")
    return [
        Fold(ChestNetwork.open(folder / "weights.safetensors"), frozenset(read_json(folder / "result.json")["tested"]))
        for folder in folders
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


def read_folds(folds: Sequence[Fold], data: Path, every: int) -> list[list[Read]]:
    """Read every so many slices of those whom each fold never saw, at the threshold that the other folds choose."""
    reads = [[read(fold.network, sample) for sample in kept_aside(fold, data)[::every]] for fold in folds]
    if len(folds) == 1:
        return reads
    thresholds = [choose_threshold(one for other in reads if other is not own for one in other) for own in reads]
    return [[replace(one, threshold=t) for one in own] for own, t in zip(reads, thresholds, strict=True)]


def choose_threshold(slices: Iterable[Read]) -> float:
    """Return the threshold with the best Dice of infection, the mean over the patients."""
    counts: dict[float, dict[str, Confusion]] = {threshold: {} for threshold in THRESHOLDS}
    for one in slices:
        true = one.sample.mask(INFECTION)
        for threshold, patients in counts.items():
            found = Confusion.of(one.infection >= threshold, true)
            patients[one.patient] = patients.get(one.patient, Confusion()) + found
    return max(THRESHOLDS, key=lambda t: Spread.of(patient.dice for patient in counts[t].values()).mean)
