"""Carry out an experiment: train and test each split, and write the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from dicom_node.errors import SettingsError
from training import datasets
from training.claim import Claim, finished_splits
from training.datasets.notes import notes
from training.evaluate.compare import Judged, foreground_dice, measure
from training.evaluate.metrics import over_splits
from training.exam import Exam, Weights
from training.experiment import LAST_EPOCH, Experiment
from training.files import read_json, write_json
from training.fit.loop import Training
from training.fit.losses import build_loss, median_frequency_weights
from training.fit.pretrained import load_pretrained, open_pretrained, open_weights, seen_before
from training.fit.processes import Processes
from training.fit.state import Progress
from training.prepare.classes import missing_classes
from training.prepare.examples import cut
from training.prepare.prepared import Prepared, discard, prepare
from training.provenance import card_of, machine, machines, source_version, with_figures
from training.reporter import Reporter, counted
from worker.networks.card import Card, read_card
from worker.networks.checkpoint import save
from worker.networks.network import SegmentationNetwork, count_parameters
from worker.networks.registry import build


class Trial:
    """One run of an experiment in one folder.

    Parameters
    ----------
    folder : Path
        Gets ``prepared/``, ``result.json`` and, for each split, ``split-N/`` with the training's files,
        ``weights.safetensors`` and pictures. Work that is finished there is not repeated.
    splits : sequence of int or None
        Which splits to train; all if None.

    Raises
    ------
    SettingsError
        When the folder holds another run, or a split of one, another process works in it, the pretrained weights cannot
        be opened, or there is no such split.
    BadData
        When a file of the data sets is missing or malformed.
    """

    def __init__(
        self,
        experiment: Experiment,
        data: Path,
        folder: Path,
        *,
        short: bool,
        seed: int,
        processes: Processes,
        console: Console,
        splits: Sequence[int] | None = None,
    ) -> None:
        self.experiment = experiment = experiment.shortened() if short else experiment
        self.data = data
        self.folder = folder
        self.short = short
        self.seed = seed
        self.processes = processes
        self.console = console
        every = range(experiment.split.count)
        self.chosen = every if splits is None else splits
        if not set(self.chosen) <= set(every):
            raise SettingsError("no-split", f"splits are 0 to {every[-1]}, got {list(self.chosen)}")
        self.source = source_version()  # read before training: hours later the source may have changed
        self.pretrained = None if experiment.pretrained is None else folder.parent / experiment.pretrained
        self.claim = Claim(experiment, data, folder, self.pretrained, short=short, seed=seed)
        if processes.rank == 0:
            self.claim.lock()
        self.claim.refuse_another_run()
        if processes.rank == 0:
            self._prepare(data)
        processes.wait()
        self.prepared = prepare((), experiment.preprocess, experiment.target, folder / "prepared")
        self.splits = experiment.split.splits([sample.patient for sample in self.prepared], seed)
        for number, split in finished_splits(self.folder).items():
            patients = self._patients(number) if number < len(self.splits) else {}
            self.claim.refuse_foreign_split(split, read_json(split / "result.json"), patients)
        if processes.rank == 0:
            self.claim.write()
        processes.wait()

    def train(self) -> dict[str, Any]:
        """Train and test the chosen splits and return the result as it is written."""
        self.claim.refuse_other_files()
        self.claim.refuse_other_pretrained()
        chosen = {number: self.splits[number] for number in self.chosen}
        self._say(missing_classes(chosen, self.prepared, self.experiment.target.names, self.experiment.may_lack))
        for number in self.chosen:
            if not (self._split_folder(number) / "result.json").exists():
                self._train_split(number)
            self.result()
        return self.result()

    def evaluate(self) -> dict[str, Any]:
        """Test the weights of the chosen splits again and return the result as it is written."""
        trained = self.finished()
        if not set(self.chosen) & set(trained):
            raise SettingsError("not-trained", f"the splits that are trained are {trained}, got {list(self.chosen)}")
        if self.processes.rank == 0:
            for number in (n for n in self.chosen if n in trained):
                folder, (network, card) = self._split_folder(number), self._load(number)
                measures = self._measure(network, card, number)
                write_json(folder / "weights.json", asdict(with_figures(card, measures)))
                write_json(folder / "result.json", read_json(folder / "result.json") | {"measures": measures})
        self.processes.wait()
        return self.result()

    def finished(self) -> list[int]:
        """Return the splits that are trained."""
        return list(finished_splits(self.folder))

    def judge(self, number: int) -> list[Judged]:
        """Predict the test part of a split with its trained weights."""
        return self._exam(number).judge(self._load(number)[0])

    def result(self) -> dict[str, Any]:
        """Summarise the splits that are done, write ``result.json`` and return it."""
        folders = finished_splits(self.folder).values()
        splits = [read_json(folder / "result.json") for folder in folders]
        cards = [read_card(folder / "weights.json") for folder in folders]
        names = dict.fromkeys(name for split in splits for name in split["measures"])
        result = {
            "experiment": self.experiment.name,
            "paper": self.experiment.paper,
            "differs": self.experiment.differences,
            "data": self.experiment.data,
            "short": self.short,
            "splits_done": len(splits),
            "splits_all": len(self.splits),
            "split_by": self.splits[0].by,
            "length": self.experiment.length,
            "judged": self._exam(0).way,
            "seen_before": seen_before(self.experiment.data, cards[0]) if cards else [],
            "parameters": count_parameters(self._new_network()),
            "seed": self.seed,
            "source": ", ".join(dict.fromkeys(chain.from_iterable(card.commit.split(", ") for card in cards))),
            **machines(splits, self.processes.device),
            "measures": {name: asdict(over_splits(name, (s["measures"].get(name) for s in splits))) for name in names},
            "published": [asdict(figure) for figure in self.experiment.published],
            "splits": splits,
        }
        if self.processes.rank == 0:
            write_json(self.folder / "result.json", result)
        self.processes.wait()
        written: dict[str, Any] = read_json(self.folder / "result.json")
        return written

    def _train_split(self, number: int) -> None:
        """Train one split and write its weights and its measures."""
        folder = self._split_folder(number)
        training, patients = self._training(number), self._patients(number)
        progress = training.progress
        progress.begun_as = progress.begun_as or {"claim": self.claim.begun_as, **patients}
        self.claim.refuse_foreign_split(folder, progress.begun_as, patients)
        if not progress.finished:
            progress.sources = list(dict.fromkeys([*progress.sources, self.source]))
        training.run()
        self.processes.wait()
        if self.processes.rank == 0:
            network = training.load_weights(self.experiment.recipe.keep)
            before = None if self.pretrained is None else open_pretrained(self.pretrained)[1]
            commit = ", ".join(progress.sources) or self.source
            card = card_of(self.experiment, self._classes(network), commit, before, short=self.short)
            measures = self._measure(network, card, number)
            save(folder / "weights.safetensors", network, with_figures(card, measures))
            write_json(folder / "result.json", self._split_result(number, progress, measures))
        self.processes.wait()

    def _training(self, number: int) -> Training:
        experiment, recipe, seed = self.experiment, self.experiment.recipe, self.seed + number
        training = self._pick(self.splits[number].training)
        validation = self._pick(self.splits[number].validation)
        torch.manual_seed(seed)
        network = self._new_network()
        if self.pretrained is not None:
            load_pretrained(network, self.pretrained, self._classes(network))
        return Training(
            network,
            cut(training, experiment.stacking),
            recipe,
            build_loss(recipe.loss, self._class_weights(training), **recipe.loss_arguments),
            lambda network: foreground_dice(network, experiment.stacking, validation, experiment.threshold),
            self._split_folder(number),
            seed=seed,
            processes=self.processes,
            reporter=Reporter(self.console, f"{experiment.name} split {number + 1} of {len(self.splits)}"),
        )

    def _class_weights(self, training: Sequence[Prepared]) -> Sequence[float] | None:
        weights = self.experiment.recipe.class_weights
        if weights != "median_frequency":
            return weights
        slices = [torch.from_numpy(np.array(labels)) for sample in training for labels in sample.labels]
        return median_frequency_weights(slices, len(self.experiment.target.names))

    def _new_network(self) -> SegmentationNetwork:
        network = build(self.experiment.network, self.experiment.arguments)
        classes = len(self.experiment.target.names)
        fits = {1, 2} if classes == 2 else {classes}
        if not isinstance(network, SegmentationNetwork) or network.classes not in fits:
            raise SettingsError(
                "network-does-not-fit", f"the network {self.experiment.network!r} does not give {classes} classes"
            )
        return network

    def _load(self, number: int) -> Weights:
        folder = self._split_folder(number)
        network, card = open_weights(folder / "weights.safetensors", f"split {number}")
        if not isinstance(network, SegmentationNetwork):
            raise SettingsError("not-a-segmentation", f"{folder} holds a {type(network).__name__}")
        return network.to(self.processes.device), card

    def _measure(self, network: SegmentationNetwork, card: Card, number: int) -> dict[str, float]:
        """Return all measures of the test part, and draw its results in the split's folder."""
        exam = self._exam(number)
        measures = exam.take((network, card), self._open_before(network), self._split_folder(number))
        asked = {figure.measure for figure in self.experiment.published if figure.measure.startswith(LAST_EPOCH)}
        if asked:
            judged = exam.judge(self._training(number).load_weights("last"))
            of_last = {
                LAST_EPOCH + name: value for name, value in measure(judged, self.experiment.target.names).items()
            }
            measures |= {name: value for name, value in of_last.items() if name in asked}
        return measures

    def _open_before(self, network: SegmentationNetwork) -> Weights | None:
        """Return the pretrained weights, or None if there are none, they have changed, or they have other classes."""
        if self.pretrained is None or not self.claim.has_its_pretrained:
            return None
        before, card = open_pretrained(self.pretrained)
        if not isinstance(before, SegmentationNetwork) or card.classes != self._classes(network):
            return None
        return before.to(self.processes.device), card

    def _exam(self, number: int) -> Exam:
        split = self.splits[number]
        title = f"{self.experiment.name} split {number + 1}"
        return Exam(
            self.experiment, self.data, self._pick(split.validation), self._pick(split.test), self.console, title
        )

    def _pick(self, indices: Sequence[int]) -> list[Prepared]:
        return [self.prepared[i] for i in indices]

    def _patients(self, number: int) -> dict[str, list[str]]:
        """Return who is on each side of a split: the names of patients, or of samples without a patient."""
        split = self.splits[number]
        sides = {"trained": split.training, "validated": split.validation, "tested": split.test}
        return {side: sorted({p.patient or p.name for p in self._pick(indices)}) for side, indices in sides.items()}

    def _split_folder(self, number: int) -> Path:
        return self.folder / f"split-{number}"

    def _classes(self, network: SegmentationNetwork) -> tuple[str, ...]:
        """Return the class of each of the network's channels; a sigmoid has no channel for the background."""
        names = self.experiment.target.names
        return names if network.classes > 1 else names[1:]

    def _prepare(self, data: Path) -> None:
        """Prepare the data, unless that was done before; changed data are prepared again until a split has learned."""
        prepared, names = self.folder / "prepared", self.experiment.data
        if not self.claim.is_trained and not self.claim.has_its_files:
            discard(prepared)
        if not (prepared / "index.json").exists():
            if self.claim.is_trained:
                self.claim.refuse_other_files()
            if patients := datasets.own_patients(names, data):
                self.experiment.split.splits(patients, self.seed)  # refuses too few patients before hours of reading
            self._say(notes(names, data))
        samples = counted(datasets.read_all(names, data), self.console, "images prepared")
        prepare(samples, self.experiment.preprocess, self.experiment.target, prepared)

    def _say(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _split_result(self, number: int, progress: Progress, measures: dict[str, float]) -> dict[str, Any]:
        split = self.splits[number]
        return {
            "split": number,
            "samples": {side: len(getattr(split, side)) for side in ("training", "validation", "test")},
            **progress.begun_as,
            "epochs": len(progress.history),
            "kept": self.experiment.recipe.keep,
            "best_epoch": progress.best_epoch,
            "training_seconds": round(progress.seconds, 1),
            **machine(self.processes.device),
            "loss_first": progress.history[0]["loss"],
            "loss_last": progress.history[-1]["loss"],
            "measures": measures,
        }
