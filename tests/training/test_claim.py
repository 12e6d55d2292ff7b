import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from dicom_node.errors import SettingsError
from tests.training.synthetic import disc_sample
from tests.training.trials import DISCS, read_discs, trial
from training import datasets
from training.claim import finished_splits
from training.datasets.sample import BadData, Sample
from training.experiment import Experiment, Short
from training.prepare.examples import Stacking
from training.prepare.splits import KFold
from worker.networks.checkpoint import load, save


@pytest.fixture(autouse=True)
def disc_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "READERS", {"discs": read_discs})
    torch.set_num_threads(1)


def test_the_finished_splits_are_found_in_order_and_copies_of_them_are_not(tmp_path: Path) -> None:
    for name in ("split-10", "split-2", "split-2.bak", "split-3"):
        (tmp_path / name).mkdir()
    for name in ("split-10", "split-2", "split-2.bak"):
        (tmp_path / name / "result.json").touch()
    assert finished_splits(tmp_path) == {2: tmp_path / "split-2", 10: tmp_path / "split-10"}
    assert list(finished_splits(tmp_path)) == [2, 10]


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    trial(tmp_path, short=True)
    with pytest.raises(SettingsError, match="choose another folder"):
        trial(tmp_path, short=False)


@pytest.mark.parametrize(
    "changed",
    [
        replace(DISCS, recipe=replace(DISCS.recipe, epochs=61)),
        replace(DISCS, arguments={**DISCS.arguments, "width": 8}),
        replace(DISCS, stacking=Stacking(3, 2 / 3), network="unet-2.5d"),
    ],
)
def test_a_run_is_refused_when_its_recipe_or_network_has_changed(tmp_path: Path, changed: Experiment) -> None:
    trial(tmp_path)
    trial(tmp_path)
    with pytest.raises(SettingsError, match="another recipe or network"):
        trial(tmp_path, experiment=changed)


def test_a_run_is_refused_when_its_folds_have_changed(tmp_path: Path) -> None:
    trial(tmp_path)
    with pytest.raises(SettingsError, match="begun with other splits"):
        trial(tmp_path, experiment=replace(DISCS, split=KFold(folds=4, validation=0.2)))


@pytest.mark.parametrize("name", ["trial.json", "result.json"])
def test_a_folder_of_a_benchmark_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text('{"experiment": "wu-thresholds"}')
    with pytest.raises(SettingsError, match="run holds experiment wu-thresholds; choose another folder"):
        trial(tmp_path)


def test_a_second_process_in_a_runs_folder_is_refused(tmp_path: Path) -> None:
    begun = trial(tmp_path, short=True, splits=[0])
    with pytest.raises(SettingsError, match="another process works in"):
        trial(tmp_path, short=True, splits=[1])
    assert begun.train()["splits_done"] == 1


def test_a_runs_folder_is_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True)"
    )
    command = [sys.executable, "-c", f"{code}; time.sleep(60)", str(tmp_path / "run" / "trial.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(SettingsError, match="another process works in"):
            trial(tmp_path, short=True)
        other.kill()
    trial(tmp_path, short=True)


def test_a_folder_where_no_file_can_be_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SettingsError, match=r"no file can be locked \(No locks available\)"):
        trial(tmp_path, short=True)


def move_in_a_split(folder: Path, **begun_as: Any) -> Path:
    """Train split 1 of a run begun with these options, and move it into a run begun as usual; return its result."""
    trial(folder, splits=[1], **{"short": True} | begun_as).train()
    (folder / "run").rename(folder / "other")
    trial(folder, short=True)
    (folder / "other" / "split-1").rename(folder / "run" / "split-1")
    return folder / "run" / "split-1" / "result.json"


def test_a_split_of_a_run_like_this_one_counts_here(tmp_path: Path) -> None:
    move_in_a_split(tmp_path)
    assert trial(tmp_path, short=True).evaluate()["splits_done"] == 1


@pytest.mark.parametrize(
    ("begun_as", "differing"),
    [
        ({"seed": 7}, "seed, trained, validated, tested"),
        ({"experiment": replace(DISCS, short=Short(epochs=1))}, "recipe"),
        ({"experiment": replace(DISCS, split=KFold(folds=2, validation=0.2))}, "split, trained, validated, tested"),
    ],
)
def test_a_split_that_was_moved_here_from_another_run_is_refused(
    tmp_path: Path, begun_as: dict[str, Any], differing: str
) -> None:
    move_in_a_split(tmp_path, **begun_as)
    with pytest.raises(SettingsError, match=f"split-1 is of another run than .*differ in {differing}; move it out"):
        trial(tmp_path, short=True)


def test_an_unfinished_split_that_was_moved_here_from_another_run_is_refused(tmp_path: Path) -> None:
    move_in_a_split(tmp_path, seed=7).unlink()
    with pytest.raises(SettingsError, match=r"split-1 is of another run than .*differ in seed, trained"):
        trial(tmp_path, short=True, splits=[1]).train()


def test_a_split_trained_before_it_said_of_which_run_it_is_counts_by_whom_it_tested(tmp_path: Path) -> None:
    path = move_in_a_split(tmp_path)
    written = json.loads(path.read_text())
    for key in ("claim", "trained", "validated"):
        del written[key]
    path.write_text(json.dumps(written))
    assert trial(tmp_path, short=True).evaluate()["splits_done"] == 1
    path.write_text(json.dumps(written | {"tested": ["p0"]}))
    with pytest.raises(SettingsError, match="differ in tested"):
        trial(tmp_path, short=True)


def test_processes_of_torchrun_share_a_folder(tmp_path: Path) -> None:
    leader = trial(tmp_path, short=True)
    assert trial(tmp_path, short=True, rank=1).splits == leader.splits


def test_a_run_on_other_data_sets_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.READERS, "mine", datasets.READERS["discs"])  # type: ignore[misc]  # a dict, by a fixture
    trial(tmp_path, short=True)
    with pytest.raises(SettingsError, match="choose another folder"):
        trial(tmp_path, experiment=replace(DISCS, data=("mine",)), short=True)


def test_a_run_begun_before_its_claim_named_the_data_sets_goes_on(tmp_path: Path) -> None:
    trial(tmp_path, short=True)
    claim = {"experiment": "discs", "short": True, "seed": 0}
    (tmp_path / "run" / "trial.json").write_text(json.dumps(claim))
    trial(tmp_path, short=True)
    later = json.loads((tmp_path / "run" / "trial.json").read_text())
    assert later == claim | {
        "sets": ["discs"],
        "files": "",
        "recipe": later["recipe"],
        "split": "KFold(folds=3, validation=0.2)",
        "pretrained": "",
    }


def test_a_run_does_not_go_on_from_pretrained_weights_that_were_trained_again(tmp_path: Path) -> None:
    going_on = pretrained_run(tmp_path)
    trial(tmp_path, experiment=going_on, short=True, splits=[0]).train()
    train_the_pretrained_again(tmp_path)
    with pytest.raises(SettingsError, match=r"other pretrained weights than those now in .*weights\.safetensors"):
        trial(tmp_path, experiment=going_on, short=True, splits=[1]).train()


def test_a_run_is_evaluated_without_the_pretrained_weights_that_it_did_not_begin_with(tmp_path: Path) -> None:
    going_on = pretrained_run(tmp_path)
    trained = trial(tmp_path, experiment=going_on, short=True, splits=[0]).train()
    train_the_pretrained_again(tmp_path)
    again = trial(tmp_path, experiment=going_on, short=True).evaluate()
    dice = "infection/dice_global"
    assert again["measures"][dice] == trained["measures"][dice]
    assert f"before/{dice}" in trained["measures"]
    assert f"before/{dice}" not in again["measures"]


def pretrained_run(folder: Path) -> Experiment:
    """Train a first run; return an experiment that starts from its weights."""
    trial(folder, short=True, splits=[0]).train()
    (folder / "run").rename(folder / "first")
    return replace(DISCS, pretrained=Path("first", "split-0", "weights.safetensors"))


def train_the_pretrained_again(folder: Path) -> None:
    """Replace the weights from which the experiment starts by others."""
    path = folder / "first" / "split-0" / "weights.safetensors"
    network, card = load(path)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    save(path, network, card)


OWN = replace(DISCS, data=("labels",))


@pytest.fixture
def label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(datasets.READERS, "labels", datasets.READERS["discs"])  # type: ignore[misc]  # a dict, by a fixture
    first, *_ = [write_label(tmp_path / "labels" / f"p{number}") for number in range(6)]
    return first


def write_label(patient: Path) -> Path:
    (patient / "labels").mkdir(parents=True)
    label = patient / "labels" / "infection.nii.gz"
    label.write_bytes(b"first")
    return label


def test_a_run_does_not_go_on_when_the_sites_own_labels_have_changed(tmp_path: Path, label: Path) -> None:
    trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()
    trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()
    label.write_bytes(b"later")  # of the same size
    with pytest.raises(SettingsError, match=r"others than when .* was begun; train on them with another --out"):
        trial(tmp_path, experiment=OWN, short=True, splits=[1]).train()


def test_a_run_is_evaluated_though_patients_were_added_since(tmp_path: Path, label: Path) -> None:
    trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()
    write_label(tmp_path / "labels" / "p6")
    assert trial(tmp_path, experiment=OWN, short=True).evaluate()["splits_done"] == 1
    with pytest.raises(SettingsError, match="others than when"):
        trial(tmp_path, experiment=OWN, short=True).train()


def test_changed_files_are_not_prepared_for_weights_that_learned_from_others(tmp_path: Path, label: Path) -> None:
    trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()
    label.write_bytes(b"later")
    shutil.rmtree(tmp_path / "run" / "prepared")
    with pytest.raises(SettingsError, match="others than when"):
        trial(tmp_path, experiment=OWN, short=True)


def test_too_few_patients_are_told_before_images_are_read_and_more_may_be_added(tmp_path: Path, label: Path) -> None:
    many = replace(OWN, split=KFold(folds=7))
    with pytest.raises(SettingsError, match="only 6 patients"):
        trial(tmp_path, experiment=many, short=True)
    assert not (tmp_path / "run" / "prepared").exists()
    write_label(tmp_path / "labels" / "p6")
    with pytest.raises(SettingsError, match="only 6 patients"):  # the message counts the discs' patients, still six
        trial(tmp_path, experiment=many, short=True)
    assert trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()["splits_done"] == 1


def test_images_are_prepared_anew_while_nothing_has_learned_from_them(
    tmp_path: Path, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(tmp_path, experiment=OWN, short=True)
    write_label(tmp_path / "labels" / "p6")
    monkeypatch.setitem(datasets.READERS, "labels", lambda folder: chain(read_discs(folder), [disc_sample(12, "p6")]))  # type: ignore[misc]  # a dict, by a fixture
    again = trial(tmp_path, experiment=OWN, short=True, splits=[0])
    assert len(again.prepared) == 13
    assert again.train()["splits_done"] == 1


def test_a_run_below_the_data_goes_on(tmp_path: Path, label: Path) -> None:
    for patient in (tmp_path / "labels").iterdir():
        patient.rename(tmp_path / patient.name)
    (tmp_path / "labels").rmdir()
    trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()
    assert trial(tmp_path, experiment=OWN, short=True, splits=[1]).train()["splits_done"] == 2


def test_a_run_begins_once_what_was_wrong_with_the_data_is_mended(
    tmp_path: Path, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        raise BadData("wrong-shape", f"{folder}: two axes")

    with monkeypatch.context() as broken:
        broken.setitem(datasets.READERS, "labels", read)  # type: ignore[misc]  # a dict, by a fixture
        with pytest.raises(BadData):
            trial(tmp_path, experiment=OWN, short=True)
    label.write_bytes(b"mended")
    assert trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()["splits_done"] == 1


def test_another_runs_folder_is_refused_before_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        raise AssertionError("read")

    trial(tmp_path, short=True)
    shutil.rmtree(tmp_path / "run" / "prepared")
    monkeypatch.setitem(datasets.READERS, "discs", read)  # type: ignore[misc]  # a dict, by a fixture
    with pytest.raises(SettingsError, match="choose another folder"):
        trial(tmp_path, short=False)
