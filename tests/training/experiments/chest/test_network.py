from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import SettingsError
from tests.training.experiments.chest.slices import GRAY_NETWORK, HU, slices_of
from tests.worker.by_gray import CARD
from training.experiments.chest.judged import slice_figures, slice_tiles
from training.experiments.chest.network import CHEST, FOLDS, OWN
from training.experiments.chest.reading import Fold, kept_aside, open_folds, read
from training.files import write_json
from training.prepare.splits import NamedFolds
from worker.networks.card import read_card
from worker.networks.checkpoint import save
from worker.networks.registry import build


def test_nobody_is_named_in_two_folds() -> None:
    assert isinstance(FOLDS.split, NamedFolds)
    named = [name for group in FOLDS.split.groups for name in group]
    assert len(named) == len(set(named))


def test_the_shipped_network_is_trained_as_the_folds_that_are_judged() -> None:
    assert (CHEST.network, CHEST.arguments, CHEST.preprocess) == (FOLDS.network, FOLDS.arguments, FOLDS.preprocess)
    assert CHEST.recipe == FOLDS.recipe


def test_a_site_fine_tunes_what_the_worker_can_read() -> None:
    assert OWN.pretrained is not None
    card = read_card(OWN.pretrained.with_suffix(".json"))
    assert (card.network, card.classes, card.window_hu) == (OWN.network, OWN.target.names, OWN.preprocess.window_hu)
    assert (card.image_size, card.stack_slices) == (OWN.preprocess.size, OWN.stacking.slices)


def test_dice_is_counted_by_patient_and_poir_is_compared() -> None:
    figures = slice_figures([read(GRAY_NETWORK, sample) for sample in (*slices_of("a"), *slices_of("b"))])
    assert figures["patients"] == 2
    assert figures["lung/dice_per_case"] > 0.95
    assert figures["infection/dice/a"] == figures["infection/dice/b"] > 0.7
    assert figures["infection/dice_per_case_low"] == figures["infection/dice_per_case_high"]
    assert figures["poir/m_ape"] < 60


def test_slices_are_shown_from_the_worst_to_the_best() -> None:
    captions = [
        float(tile.caption.rsplit(" ", 1)[1])
        for tile in slice_tiles([read(GRAY_NETWORK, sample) for sample in slices_of("a")])
    ]
    assert len(captions) == 12
    assert captions == sorted(captions)


def test_only_who_was_kept_aside_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.datasets.read", lambda _name, _data: [*slices_of("a"), *slices_of("b")])
    kept = kept_aside(Fold(GRAY_NETWORK, frozenset({"b"})), tmp_path)
    assert {sample.patient for sample in kept} == {"b"}


def test_folds_are_opened_with_whom_they_never_saw(tmp_path: Path) -> None:
    for number, patient in enumerate("ab"):
        folder = tmp_path / FOLDS.name / f"split-{number}"
        folder.mkdir(parents=True)
        write_json(folder / "result.json", {"tested": [patient]})
        save(folder / "weights.safetensors", build(CARD.network, CARD.arguments), CARD)
    write_json(tmp_path / FOLDS.name / "result.json", {"splits_done": 2, "splits_all": 2, "short": False})
    assert [fold.tested for fold in open_folds(tmp_path, short=False)] == [{"a"}, {"b"}]
    (folder / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(SettingsError, match=r"earlier run.*SHA-256"):
        open_folds(tmp_path, short=False)


def test_dice_is_told_at_other_probabilities_too() -> None:
    reads = [
        replace(read(GRAY_NETWORK, sample), infection=np.full((1, *HU.shape[1:]), 0.25)) for sample in slices_of("a")
    ]
    figures = slice_figures(reads)
    assert figures["infection/dice_per_case/at-0.2"] > figures["infection/dice_per_case/at-0.3"] == 0
