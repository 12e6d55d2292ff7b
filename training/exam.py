"""Test networks on the test part of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from training.datasets.sample import Sample
from training.evaluate.area_plots import write_area_plots
from training.evaluate.as_worker import Found, drawn, find_samples, measure_scans, scans_of
from training.evaluate.compare import Judged, judge, measure, tuned_dice
from training.evaluate.overlays import in_lung_window, worst_middle_best, write_page
from training.evaluate.sketch import Sketch, sketch, sketches_of
from training.experiment import Experiment
from training.prepare.prepared import Prepared, scans
from training.reporter import counted
from worker.chest_network import ChestNetwork
from worker.networks.card import Card
from worker.networks.network import SegmentationNetwork
from worker.networks.torch_engine import TorchEngine
from worker.volume import Volume

Weights = tuple[SegmentationNetwork, Card]


@dataclass(frozen=True, eq=False)
class Exam:
    """The test part of a split, and the validation part, which may tune a threshold.

    Parameters
    ----------
    experiment : Experiment
    data : Path
        The folder of the data sets.
    validation, test : sequence of Prepared
    console : Console
        Shows how many scans are read, under the title.
    title : str
    """

    experiment: Experiment
    data: Path
    validation: Sequence[Prepared]
    test: Sequence[Prepared]
    console: Console
    title: str

    @property
    def scans(self) -> list[Prepared]:
        """The test scans to read as a worker does; if there are none, everything is judged on the network's grid."""
        return scans_of(self.test) if self.experiment.as_worker else []

    @property
    def way(self) -> str:
        """How the figures were obtained, in words."""
        return "judged as a worker reads" if self.scans else "judged on the network's grid"

    def judge(self, network: SegmentationNetwork) -> list[Judged]:
        """Predict the test part on the network's grid."""
        read = counted(scans(self.test), self.console, f"{self.title}: scans tested")
        stacking, threshold = self.experiment.stacking, self.experiment.threshold
        return [judged for scan in read for judged in judge(network, stacking, scan, threshold)]

    def take(self, trained: Weights, before: Weights | None, folder: Path) -> dict[str, float]:
        """Return all measures of the trained and the pretrained network; draw the trained one's results in a folder.

        Measures of the pretrained network have names that begin with ``before/``.
        """
        if self.scans:
            return self._take_as_worker(trained, before, folder)
        names = self.experiment.target.names
        judged = self.judge(trained[0])
        draw({name: sketches_of(judged, label) for label, name in enumerate(names[1:], start=1)}, folder)
        measures = measure(judged, names)
        if len(names) == 2:
            tuned = tuned_dice(trained[0], self.experiment.stacking, self.validation, self.test)
            measures |= {f"tuned/{names[1]}/{name}": value for name, value in tuned.items()}
        if before and before[1].image_size == self.experiment.preprocess.size:  # else the images do not fit it
            measures |= {f"before/{name}": value for name, value in measure(self.judge(before[0]), names).items()}
        return measures

    def _take_as_worker(self, trained: Weights, before: Weights | None, folder: Path) -> dict[str, float]:
        sketches: dict[str, list[Sketch]] = defaultdict(list)

        def show(prefix: str, volume: Volume, found: Found, sample: Sample) -> None:
            if prefix:
                return
            for name, mask in found.items():
                if (true := drawn(sample, name)) is not None:
                    sketches[name].append(sketch(sample.scan, in_lung_window(volume.hu), mask, true))

        networks = {"": trained} | ({"before/": before} if before else {})
        readers = {prefix: reader(*weights) for prefix, weights in networks.items()}
        samples = find_samples(self.experiment.data, self.data, self.scans)
        samples = counted(samples, self.console, f"{self.title}: scans read as a worker reads")
        measures = measure_scans(readers, samples, show)
        draw(sketches, folder)
        return measures


def draw(sketches: Mapping[str, Sequence[Sketch]], folder: Path) -> None:
    """Write area-plots of each class, and a page of the slices with its lowest, middle and highest Dice.

    Without a slice that has the class, in the truth or in the result, there is no page.
    """
    for name, drawn_scans in sketches.items():
        write_area_plots(drawn_scans, folder / f"area-plots-{name}.svg")
        if scored := [tile for scan in drawn_scans for tile in scan.tiles]:
            write_page(worst_middle_best(scored), folder / f"slices-{name}.jpg")


def reader(network: SegmentationNetwork, card: Card) -> ChestNetwork:
    """Return a network as the worker's chest network, on the device that it is on."""
    return ChestNetwork(TorchEngine(network, str(next(network.parameters()).device)), card)
