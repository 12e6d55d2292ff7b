"""Compare 2D, 2.5D and 3D networks, to choose the layout of the chest network.

Each layout reads the slices in two ways: as they are, and as a mean with their mirror images. One more way is an
ensemble of two layouts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from training import datasets
from training.datasets.infection_slices import NO_TRUE_STACKS
from training.datasets.sample import INFECTION, LUNG, Sample
from training.evaluate.metrics import Confusion, Spread, with_interval
from training.evaluate.scan import Segmenter, open_segmenter
from training.experiment import Benchmark, Experiment, Published
from training.experiments.chest.network import FOLDS_2D, FOLDS_3D, FOLDS_25D
from training.experiments.chest.reading import fold_weights
from worker.chest_network import INFECTED, WHOLE_LUNG
from worker.framing import Framing
from worker.models.store import weights_at

LAYOUTS: Mapping[str, Experiment] = {"2d": FOLDS_2D, "2.5d": FOLDS_25D, "3d": FOLDS_3D}

MIRRORED = "{}-mirrored"
"""Name of a layout's way that takes the mean over the slices as they are and their mirror images."""

SHIPPED_WAY = MIRRORED.format("2d")

MEMBERS = (SHIPPED_WAY, MIRRORED.format("2.5d"))
ENSEMBLE = "2d+2.5d-mirrored"
"""Name of the way that takes the mean over ``MEMBERS``."""

Probabilities = list[NDArray[np.float32]]
"""For each slice, the probabilities of whole lung and of infection, (2, rows, columns), on the slice's own pixels."""


@dataclass(frozen=True)
class Reader:
    """A fold's network of one layout, and the names of the patients that it never saw."""

    segmenter: Segmenter
    window_hu: tuple[float, float]
    side: int
    tested: frozenset[str]

    def read(self, scan: Sequence[Sample], mirrored: bool) -> tuple[Probabilities, float]:
        """Return the network's probabilities for a scan's slices, and its computing time in seconds, over all threads.

        The network sees all of each slice, because the slices were already cropped to the chest.
        """
        frames = [Framing(slice(0, s.image.shape[1]), slice(0, s.image.shape[2]), self.side) for s in scan]
        images = np.stack(
            [f.show(s.image[0].astype(np.float32), self.window_hu) for f, s in zip(frames, scan, strict=True)]
        )
        step = -1 if mirrored else 1
        began = time.process_time()
        answers = np.concatenate([chunk for _, chunk in self.segmenter.probabilities(images[..., ::step])])
        seconds = time.process_time() - began
        asked = np.stack([answers[:, classes].sum(axis=1) for classes in (WHOLE_LUNG, INFECTED)], axis=1)
        return [
            np.stack([frame.place(np.ascontiguousarray(one)) for one in answer])
            for frame, answer in zip(frames, asked[..., ::step], strict=True)
        ], seconds


@dataclass
class Score:
    """Counts over a patient's slices, read in one way."""

    lung: Confusion = field(default_factory=Confusion)
    infection: Confusion = field(default_factory=Confusion)
    seconds: float = 0.0
    slices: int = 0


def measure(data: Path, folder: Path, short: bool) -> dict[str, float]:
    """Return Dice and computing time of every way; the short form takes every tenth slice."""
    scores: dict[str, dict[str, Score]] = {}
    samples = list(datasets.read("infection-slices", data))
    for readers in open_folds(folder.parent, short, {sample.patient or sample.name for sample in samples}):
        for patient, scan in kept_aside(samples, readers):
            score_scan(scan[:: 10 if short else 1], readers, scores, patient)
    return dict(figures(scores))


def open_folds(runs: Path, short: bool, patients: Set[str]) -> Iterator[Mapping[str, Reader]]:
    """Yield the networks of each fold, by layout.

    Raises
    ------
    SettingsError
        A run is missing, unfinished or short, or its folds keep other patients aside than those of the other runs.
    """
    found = {layout: fold_weights(runs, experiment.name, short) for layout, experiment in LAYOUTS.items()}
    # Only ``patients`` are compared: which others are kept aside depends on the data that the layout can read.
    if len({tuple(tested & patients for _, tested in folds) for folds in found.values()}) != 1:
        raise SettingsError("other-splits", "the runs of the layouts have other folds; train all folds of each")
    for fold in zip(*found.values(), strict=True):
        yield {
            layout: open_reader(weights, tested & patients)
            for layout, (weights, tested) in zip(found, fold, strict=True)
        }


def open_reader(weights: Path, tested: frozenset[str]) -> Reader:
    """Load a network of any layout, and let it read once, because the first reading takes longer."""
    with weights_at(weights, "weights of an earlier run"):
        segmenter, card = open_segmenter(weights)
    assert card.window_hu is not None  # noqa: S101  # by the experiments' preprocessing
    assert card.image_size is not None  # noqa: S101  # likewise
    reader = Reader(segmenter, card.window_hu, card.image_size[0], tested)
    reader.segmenter.labels(np.zeros((card.stack_slices, *card.image_size), np.float32))
    return reader


def kept_aside(samples: Sequence[Sample], readers: Mapping[str, Reader]) -> Iterator[tuple[str, list[Sample]]]:
    """Yield each scan of the patients that the fold's networks never saw: the patient, and the slices in order."""
    tested = next(iter(readers.values())).tested
    chosen = sorted((s for s in samples if s.patient in tested), key=lambda s: (s.scan, s.position))
    for _, scan in groupby(chosen, key=lambda s: s.scan):
        slices = list(scan)
        yield slices[0].patient or slices[0].scan, slices


def score_scan(
    scan: Sequence[Sample], readers: Mapping[str, Reader], scores: dict[str, dict[str, Score]], patient: str
) -> None:
    """Read a scan in every way, and add to the scores by way and patient."""
    for way, probabilities, seconds in read_in_every_way(scan, readers):
        score = scores.setdefault(way, {}).setdefault(patient, Score())
        score.seconds += seconds
        score.slices += len(scan)
        for sample, (lung, infection) in zip(scan, probabilities, strict=True):
            found = lung >= 0.5
            score.lung += Confusion.of(found, sample.mask(LUNG)[0])
            score.infection += Confusion.of(found & (infection >= 0.5), sample.mask(INFECTION)[0])


def read_in_every_way(
    scan: Sequence[Sample], readers: Mapping[str, Reader]
) -> Iterator[tuple[str, Probabilities, float]]:
    """Yield each way's name, its probabilities for the scan, and the computing time of its networks in seconds."""
    members = []
    for layout, reader in readers.items():
        plain, seconds = reader.read(scan, mirrored=False)
        flipped, flipped_seconds = reader.read(scan, mirrored=True)
        way, both = MIRRORED.format(layout), mean_of(plain, flipped)
        yield layout, plain, seconds
        yield way, both, seconds + flipped_seconds
        if way in MEMBERS:
            members.append((both, seconds + flipped_seconds))
    yield ENSEMBLE, mean_of(*(both for both, _ in members)), sum(seconds for _, seconds in members)


def mean_of(*readings: Probabilities) -> Probabilities:
    """Return the mean of several readings of the same slices."""
    return [np.mean(slices, axis=0, dtype=np.float32) for slices in zip(*readings, strict=True)]


def figures(scores: Mapping[str, Mapping[str, Score]]) -> Iterator[tuple[str, float]]:
    """Yield each way's Dice with intervals over patients, its gain over the shipped way, and its computing time."""
    shipped = scores[SHIPPED_WAY]
    for way, patients in scores.items():
        for structure in (LUNG, INFECTION):
            counts = {name: getattr(score, structure) for name, score in sorted(patients.items())}
            yield from with_interval(f"{way}/{structure}/dice_per_case", mean_dice, counts).items()
            yield f"{way}/{structure}/dice_global", sum(counts.values(), Confusion()).dice
        yield from ((f"{way}/{INFECTION}/dice/{name}", s.infection.dice) for name, s in sorted(patients.items()))
        if way != SHIPPED_WAY:
            pairs = {name: (s.infection.dice, shipped[name].infection.dice) for name, s in sorted(patients.items())}
            yield from with_interval(f"{way}/{INFECTION}/gain", mean_gain, pairs).items()
        yield (
            f"{way}/cpu_seconds_per_slice",
            sum(s.seconds for s in patients.values()) / sum(s.slices for s in patients.values()),
        )


def mean_dice(counts: Sequence[Confusion]) -> float:
    """Return the mean Dice over patients."""
    return Spread.of(count.dice for count in counts).mean


def mean_gain(pairs: Sequence[tuple[float, float]]) -> float:
    """Return by how much the first of each pair is higher than the second, in the mean."""
    return Spread.of(one - other for one, other in pairs).mean


BENCHMARKS = (
    Benchmark(
        name="chest-layouts",
        paper="ours, 2D beside 2.5D and 3D",
        measure=measure,
        published=(
            Published("2d/infection/dice_per_case", 0.684, "Wu et al. 2020, table 1"),
            Published("2.5d/infection/dice_per_case", 0.693, "Wu et al. 2020, table 1"),
            Published("3d/infection/dice_per_case", 0.79, "Shivdeo et al. 2021, table 2"),
            Published("2d/lung/dice_per_case", 0.972, "Wu et al. 2020, table 1"),
            Published("2.5d/lung/dice_per_case", 0.967, "Wu et al. 2020, table 1"),
        ),
        short_form="every tenth slice",
        differs=f"four folds by patient; {NO_TRUE_STACKS}; the radiopaedia scans have few and thick ones",
    ),
)
