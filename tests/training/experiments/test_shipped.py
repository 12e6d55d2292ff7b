from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from tests.factories import chest_hu
from tests.worker.test_chest_network import CARD, ByGray
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiments.shipped import CHEST
from training.experiments.shipped_judged import Patient, kept_aside, poir, slice_figures, slice_tiles
from training.files import write_json
from training.metrics import Confusion
from training.splits import Named
from worker.chest_network import ChestNetwork

HU, LUNGS, INFECTED = chest_hu()
NETWORK = ChestNetwork(ByGray(), CARD)


def slices_of(patient: str) -> list[Sample]:
    return [
        Sample(
            name=f"{patient}_{z}",
            source="infection-slices",
            patient=patient,
            scan=patient,
            position=z,
            image=HU[z : z + 1],
            intensity="hu",
            masks={LUNG: LUNGS[z : z + 1] > 0, INFECTION: INFECTED[z : z + 1]},
        )
        for z in range(14, 26)
    ]


def test_nobody_is_named_in_two_parts() -> None:
    assert isinstance(CHEST.split, Named)
    named = (*CHEST.split.training_patients, *CHEST.split.validation_patients, *CHEST.split.test_patients)
    assert len(named) == len(set(named))


def test_dice_is_counted_by_patient_and_poir_is_compared() -> None:
    figures = slice_figures(NETWORK, [*slices_of("a"), *slices_of("b")])
    assert figures["patients"] == 2
    assert figures["lung/dice_per_case"] > 0.95
    assert figures["infection/dice_lowest"] == figures["infection/dice_highest"] > 0.7
    assert figures["poir/m_ape"] < 60


def test_poir_is_infection_over_lung_found_or_true() -> None:
    patient = Patient(Confusion(90, 10, 110, 0), Confusion(5, 5, 15, 0), 10)
    assert poir(patient, "found") == 10
    assert poir(patient, "true") == 10


def test_slices_are_shown_from_the_worst_to_the_best() -> None:
    captions = [float(tile.caption.rsplit(" ", 1)[1]) for tile in slice_tiles(NETWORK, slices_of("a"))]
    assert len(captions) == 12
    assert captions == sorted(captions)


def test_only_who_was_kept_aside_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.datasets.read", lambda _name, _data: [*slices_of("a"), *slices_of("b")])
    folder = tmp_path / CHEST.name / "split-0"
    folder.mkdir(parents=True)
    write_json(folder / "result.json", {"tested": ["b"]})
    assert {sample.patient for sample in kept_aside("infection-slices", tmp_path, tmp_path)} == {"b"}


def test_a_run_that_is_not_finished_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="train it first"):
        list(kept_aside("infection-slices", tmp_path, tmp_path))
