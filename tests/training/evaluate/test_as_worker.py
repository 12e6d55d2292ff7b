from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dicom_node.errors import SettingsError
from tests.factories import chest_hu
from tests.worker.by_gray import CARD, ByGray
from training import datasets
from training.datasets.sample import INFECTION, LUNG, Sample
from training.evaluate import area_plots
from training.evaluate.as_worker import find_samples, measure_scans
from training.evaluate.metrics import Confusion, area_plot
from training.exam import Exam
from training.experiments.chest.network import OWN
from training.prepare.chest_target import as_volume
from training.prepare.prepared import Prepared, prepare
from worker.chest_network import ChestNetwork
from worker.networks.network import SegmentationNetwork
from worker.networks.registry import build
from worker.pipeline import examine

HU, LUNGS, INFECTED = chest_hu()
NETWORK = ChestNetwork(ByGray(), CARD)


def scan(patient: str, *drawn: str, slices: int = 40) -> Sample:
    masks = {LUNG: LUNGS > 0, INFECTION: INFECTED}
    return Sample(
        name=patient,
        source="labels",
        patient=patient,
        scan=patient,
        position=0,
        image=HU[:slices],
        intensity="hu",
        masks={name: masks[name][:slices] for name in drawn or masks},
        spacing_mm=(6.0, 3.0, 3.0),
    )


def read(_folder: Path) -> Iterator[Sample]:
    """Yield a scan, one without a mask of the lung, one without a mask of infection, and one of nine slices."""
    return iter([scan("a"), scan("b", INFECTION), scan("c", LUNG), scan("d", slices=9)])


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> list[Prepared]:
    folder = tmp_path_factory.mktemp("run")
    return prepare(read(folder), OWN.preprocess, OWN.target, folder / "prepared")


@pytest.fixture
def prepared(on_disk: list[Prepared], monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    monkeypatch.setattr(datasets, "READERS", {"labels": read})
    return on_disk


def unseen(*_: object) -> None:
    """Show no picture."""


def unet() -> SegmentationNetwork:
    network = build(CARD.network, CARD.arguments)
    assert isinstance(network, SegmentationNetwork)
    return network


def test_dice_and_poir_are_those_of_the_masks_that_a_worker_makes(tmp_path: Path, prepared: list[Prepared]) -> None:
    figures = measure_scans({"": NETWORK}, find_samples(["labels"], tmp_path, prepared[:1]), unseen)
    findings = examine(as_volume(scan("a")), NETWORK.method)
    assert figures["infection/dice/a"] == Confusion.of(findings.infection.array, INFECTED).dice > 0.7
    assert figures["lung/dice/a"] == Confusion.of(findings.lungs.labels > 0, LUNGS > 0).dice
    assert figures["poir/a/found"] == pytest.approx(findings.measurement("both").infected_percent)
    assert figures["poir/a/true"] == pytest.approx(100 * INFECTED.sum() / (LUNGS > 0).sum())


def test_nothing_is_said_of_what_nobody_drew(tmp_path: Path, prepared: list[Prepared]) -> None:
    figures = measure_scans({"": NETWORK}, find_samples(["labels"], tmp_path, prepared[:3]), unseen)
    assert figures["patients"] == 2
    assert figures["infection/dice/b"] == figures["infection/dice/a"]
    assert (figures["lung/cases"], figures["infection/cases"]) == (1, 2)
    assert "poir/b/found" not in figures


def test_a_scan_that_is_gone_is_named(
    tmp_path: Path, prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "READERS", {"labels": lambda _folder: iter([scan("b")])})
    with pytest.raises(SettingsError, match=r"no longer holds a$"):
        measure_scans({"": NETWORK}, find_samples(["labels"], tmp_path, prepared[:2]), unseen)


def test_a_site_sees_what_a_worker_would_give_before_and_after(tmp_path: Path, prepared: list[Prepared]) -> None:
    exam = Exam(OWN, tmp_path, prepared[1:2], prepared[:1], Console(quiet=True), "own")
    figures = exam.take((unet(), CARD), (unet(), CARD), tmp_path)
    assert exam.way == "judged as a worker reads"
    assert {"infection/dice/a", "poir/a/true", "before/infection/dice/a", "before/poir/a/found"} < figures.keys()
    assert "infection/dice_per_image" not in figures


def test_pictures_show_what_a_worker_finds(
    tmp_path: Path, prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.exam.reader", lambda *_: NETWORK)
    exam = Exam(OWN, tmp_path, prepared[1:2], prepared[:1], Console(quiet=True), "own")
    exam.take((unet(), CARD), None, tmp_path)
    findings = examine(as_volume(scan("a")), NETWORK.method)
    as_found = area_plots.line(area_plot(findings.infection.array), "crimson")
    assert as_found in (tmp_path / "area-plots-infection.svg").read_text()
    assert {path.name for path in tmp_path.glob("slices-*")} == {"slices-infection.jpg", "slices-lung.jpg"}


def test_single_slices_are_judged_on_the_networks_grid(tmp_path: Path, prepared: list[Prepared]) -> None:
    exam = Exam(OWN, tmp_path, prepared[:1], prepared[3:], Console(quiet=True), "own")
    assert exam.way == "judged on the network's grid"
    before = (unet(), replace(CARD, image_size=OWN.preprocess.size))
    assert "before/lung/dice_per_image" in exam.take((unet(), CARD), before, tmp_path)


def test_a_patient_without_infection_has_no_dice_but_a_volume_found_in_error(
    tmp_path: Path, prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = replace(scan("b"), masks={LUNG: LUNGS > 0, INFECTION: np.zeros_like(INFECTED)})
    monkeypatch.setattr(datasets, "READERS", {"labels": lambda _folder: iter([scan("a"), nothing])})
    figures = measure_scans({"": NETWORK}, find_samples(["labels"], tmp_path, prepared[:2]), unseen)
    found = examine(as_volume(nothing), NETWORK.method).measurement("both").infection_volume_ml
    assert figures["infection/false_ml/b"] == pytest.approx(found)
    assert figures["infection/dice_per_case"] == figures["infection/dice/a"]
    assert "infection/dice/b" not in figures
    assert "infection/false_ml/a" not in figures
