import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image

from dicom_node.errors import SettingsError
from tests.training.synthetic import disc_sample
from tests.training.trials import DISCS, read_discs, trial
from training import datasets
from training.datasets.sample import Sample
from training.evaluate.overlays import TILE
from training.experiment import Published, Short
from training.files import read_json, write_json
from worker.networks.checkpoint import load


@pytest.fixture(autouse=True)
def disc_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "READERS", {"discs": read_discs})
    torch.set_num_threads(1)


def test_a_trial_learns_what_it_is_shown(tmp_path: Path) -> None:
    result = trial(tmp_path, splits=[0]).train()
    assert result["measures"]["infection/dice_global"]["mean"] > 0.5
    assert result["splits"][0]["loss_last"] < result["splits"][0]["loss_first"]


def test_the_result_says_how_it_came_about(tmp_path: Path) -> None:
    result = trial(tmp_path, short=True).train()
    assert result["short"] is True
    assert (result["splits_done"], result["splits_all"], result["split_by"]) == (3, 3, "patient")
    assert result["length"] == "2 epochs at 32x32, batches of 4, initial rate 0.01"
    assert result["published"] == [
        {"measure": "infection/dice_global", "mean": 0.7, "place": "table 1", "standard_deviation": None}
    ]
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_a_short_form_sees_images_of_the_size_that_it_names(tmp_path: Path) -> None:
    smaller = replace(DISCS, short=Short(epochs=1, size=(16, 16)))
    begun = trial(tmp_path, experiment=smaller, short=True, splits=[0])
    assert begun.prepared[0].image.shape == (1, 16, 16)
    assert begun.train()["length"] == "1 epochs at 16x16, batches of 4, initial rate 0.01"


def test_whom_the_reader_leaves_out_is_said_before_the_images_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "READERS", {"labels": read_discs})
    for folder in ("anna/labels", "bert/study", "carl/labels", "dora/labels"):
        (tmp_path / "labels" / folder).mkdir(parents=True)
    said = trial(tmp_path, experiment=replace(DISCS, data=("labels",))).console.file
    assert isinstance(said, io.StringIO)
    assert "1 of 4 patients have no labels and are left out: bert" in said.getvalue()


def test_splits_can_be_trained_one_by_one(tmp_path: Path) -> None:
    assert trial(tmp_path, short=True, splits=[1]).train()["splits_done"] == 1
    assert trial(tmp_path, short=True, splits=[0, 1]).train()["splits_done"] == 2


def test_the_weights_load_without_training_and_give_the_same_figures(tmp_path: Path) -> None:
    trained = trial(tmp_path, short=True, splits=[0]).train()
    _, card = load(tmp_path / "run" / "split-0" / "weights.safetensors")
    assert card.classes == ("background", "infection")
    assert card.short
    assert card.licence == "Apache-2.0 AND CC-BY-NC-SA-4.0"
    again = trial(tmp_path, short=True, splits=[0]).evaluate()
    speed = "seconds_per_slice"
    assert {k: v for k, v in again["measures"].items() if k != speed} == {
        k: v for k, v in trained["measures"].items() if k != speed
    }


def test_the_last_epoch_is_tested_beside_the_best_one_where_a_figure_is_of_it(tmp_path: Path) -> None:
    def measures(folder: str, keep: Literal["last", "best"], *published: Published) -> dict[str, float]:
        experiment = replace(DISCS, recipe=replace(DISCS.recipe, keep=keep), published=published)
        trained = trial(tmp_path / folder, experiment=experiment, splits=[0]).train()
        return {name: spread["mean"] for name, spread in trained["measures"].items()}

    of_last = measures("last", "last")
    of_both = measures("both", "best", Published("last_epoch/infection/dice_global", 0.7, "table 1"))
    assert of_both["last_epoch/infection/dice_global"] == of_last["infection/dice_global"]
    assert of_both.keys() == {*of_last, "last_epoch/infection/dice_global"}


def test_scans_get_pictures_beside_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        return (disc_sample(i, patient=f"p{i}", slices=10) for i in range(4))

    monkeypatch.setattr(datasets, "READERS", {"discs": read})
    trial(tmp_path, short=True, splits=[0]).train()
    assert "disc-" in (tmp_path / "run" / "split-0" / "area-plots-infection.svg").read_text()
    assert Image.open(tmp_path / "run" / "split-0" / "slices-infection.jpg").width == 4 * TILE


def test_splits_trained_in_another_folder_can_be_moved_here(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[1]).train()
    (tmp_path / "run").rename(tmp_path / "other")
    trial(tmp_path, short=True, splits=[0]).train()
    (tmp_path / "other" / "split-1").rename(tmp_path / "run" / "split-1")
    assert trial(tmp_path, short=True).evaluate()["splits_done"] == 2


def test_the_result_names_the_source_of_each_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, source in enumerate(("aaa", "bbb", "aaa")):
        monkeypatch.setattr("training.trial.source_version", lambda source=source: source)
        result = trial(tmp_path, short=True, splits=[number]).train()
    assert result["source"] == "aaa, bbb"


def test_the_result_names_the_device_and_torch_that_trained_each_split_not_those_that_test_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("NVIDIA H100", "AMD EPYC, 2 threads")):
        there = {"torch": f"2.{number}", "device": name}
        monkeypatch.setattr("training.trial.machine", lambda _device, there=there: there)
        trial(tmp_path, short=True, splits=[number]).train()
    result = trial(tmp_path, short=True, splits=[0]).evaluate()
    assert result["device"] == "NVIDIA H100 and AMD EPYC, 2 threads"
    assert result["torch"] == "2.0 and 2.1"


def test_a_split_that_does_not_say_where_it_was_trained_counts_as_trained_here(tmp_path: Path) -> None:
    begun = trial(tmp_path, short=True, splits=[0])
    trained = begun.train()
    path = tmp_path / "run" / "split-0" / "result.json"
    earlier = {key: value for key, value in read_json(path).items() if key not in ("torch", "device")}
    write_json(path, earlier)
    assert begun.result()["device"] == trained["device"]


def test_a_split_that_went_on_with_another_source_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_phases = replace(DISCS, recipe=replace(DISCS.recipe, phases=(1,), epochs=1))
    dice = iter([0.5])  # for the first phase; then the state is written, and the training breaks off
    with monkeypatch.context() as broken:
        broken.setattr("training.trial.source_version", lambda: "aaa")
        broken.setattr("training.trial.foreground_dice", lambda *_: next(dice))
        with pytest.raises(StopIteration):
            trial(tmp_path, experiment=two_phases, splits=[0]).train()
    monkeypatch.setattr("training.trial.source_version", lambda: "bbb")
    assert trial(tmp_path, experiment=two_phases, splits=[0]).train()["source"] == "aaa, bbb"


def test_the_source_is_that_at_the_start_whatever_lies_there_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.trial.source_version", lambda: "aaa")
    begun = trial(tmp_path, short=True, splits=[0])
    monkeypatch.setattr("training.trial.source_version", lambda: "bbb")
    assert begun.train()["source"] == "aaa"


def test_only_splits_that_are_trained_are_evaluated(tmp_path: Path) -> None:
    trained = trial(tmp_path, short=True, splits=[1]).train()
    assert trial(tmp_path, short=True).evaluate()["splits"][0]["split"] == trained["splits"][0]["split"] == 1


def test_splits_that_are_not_trained_are_not_evaluated(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[1]).train()
    with pytest.raises(SettingsError, match=r"that are trained are \[1\], got \[0, 2\]"):
        trial(tmp_path, short=True, splits=[0, 2]).evaluate()


def test_a_measure_that_was_added_later_is_a_mean_over_the_splits_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(tmp_path, short=True, splits=[0, 1]).train()
    monkeypatch.setattr("training.exam.measure", lambda judged, names: {"later": 0.5})
    measures = trial(tmp_path, short=True, splits=[0]).evaluate()["measures"]
    assert measures["later"] == {"mean": 0.5, "standard_deviation": None, "count": 1}
    assert measures["infection/dice_global"]["count"] == 1


def test_the_card_has_the_figures_of_the_last_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial(tmp_path, short=True, splits=[0]).train()
    monkeypatch.setattr("training.exam.measure", lambda judged, names: {"later": 0.5, "undefined": math.nan})
    monkeypatch.setattr("training.exam.tuned_dice", lambda *_: {})
    trial(tmp_path, short=True, splits=[0]).evaluate()
    assert load(tmp_path / "run" / "split-0" / "weights.safetensors")[1].metrics == {"later": 0.5}


def test_only_the_leader_of_torchrun_writes_what_it_evaluates(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[0]).train()
    (tmp_path / "run" / "split-0" / "weights.safetensors").write_bytes(b"damaged")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert trial(tmp_path, short=True, rank=1).evaluate()["splits_done"] == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_a_full_run_does_not_begin_with_the_weights_of_a_short_one(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[0]).train()
    (tmp_path / "run").rename(tmp_path / "first")
    going_on = replace(DISCS, pretrained=Path("first", "split-0", "weights.safetensors"))
    with pytest.raises(SettingsError, match=r"weights\.safetensors was trained in short form"):
        trial(tmp_path, experiment=going_on)
    assert trial(tmp_path, experiment=going_on, short=True, splits=[0]).train()["short"]


def test_damaged_weights_are_refused_by_name(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[0]).train()
    (tmp_path / "run" / "split-0" / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(SettingsError, match=r"weights\.safetensors"):
        trial(tmp_path, short=True).evaluate()


def test_a_network_that_gives_other_classes_is_refused(tmp_path: Path) -> None:
    four_classes = replace(DISCS, arguments={"classes": 4})
    with pytest.raises(SettingsError, match="does not give 2 classes"):
        trial(tmp_path, experiment=four_classes, short=True).train()


def test_a_split_that_is_not_there_is_refused_before_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"splits are 0 to 2, got \[3\]"):
        trial(tmp_path, short=True, splits=[3])
    assert not (tmp_path / "run").exists()


def test_a_trial_begins_with_pretrained_weights_and_says_how_good_they_were(tmp_path: Path) -> None:
    first = trial(tmp_path, splits=[0]).train()
    (tmp_path / "run").rename(tmp_path / "first")
    going_on = replace(DISCS, pretrained=Path("first", "split-0", "weights.safetensors"))
    second = trial(tmp_path, experiment=going_on, splits=[0]).train()
    assert second["splits"][0]["loss_first"] < 0.5 * first["splits"][0]["loss_first"]
    dice = "infection/dice_global"
    assert second["measures"][f"before/{dice}"] == first["measures"][dice]
    assert second["length"].endswith(", from pretrained weights")
    assert load(tmp_path / "run" / "split-0" / "weights.safetensors")[1].training_data == "discs; before that discs"
    assert (first["seen_before"], second["seen_before"]) == ([], ["discs"])


def test_nothing_is_said_of_pretrained_weights_on_images_of_a_size_that_they_do_not_read(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[0]).train()
    (tmp_path / "run").rename(tmp_path / "first")
    weights = Path("first", "split-0", "weights.safetensors")
    smaller = replace(DISCS, pretrained=weights, short=Short(epochs=1, size=(16, 16)))
    measures = trial(tmp_path, experiment=smaller, short=True, splits=[0]).train()["measures"]
    assert not any(name.startswith("before/") for name in measures)


def test_missing_pretrained_weights_are_noticed_before_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pretrained weights: .*No such file"):
        trial(tmp_path, experiment=replace(DISCS, pretrained=Path("first", "weights.safetensors")))
    assert not (tmp_path / "run" / "prepared").exists()
