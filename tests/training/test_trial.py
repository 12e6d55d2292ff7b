import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from dicom_node.errors import SettingsError
from tests.training.synthetic import RECIPE, SIZE, disc_sample
from training import datasets
from training.datasets.sample import INFECTION, BadData, Sample
from training.examples import Stacking
from training.experiment import Experiment, Published, Short
from training.overlays import TILE
from training.preprocess import Preprocess
from training.processes import Processes
from training.splits import KFold
from training.target import Target
from training.trial import Trial
from worker.networks.checkpoint import load, save

DISCS = Experiment(
    name="discs",
    paper="nobody",
    data=("discs",),
    target=Target.of(INFECTION),
    preprocess=Preprocess((SIZE, SIZE)),
    network="unet",
    arguments={"classes": 2, "width": 4, "depth": 1, "batch_norm": True},
    recipe=replace(RECIPE, epochs=60),
    split=KFold(folds=3, validation=0.2),
    short=Short(epochs=2),
    published=(Published("infection/dice_global", 0.7, "table 1"),),
)


@pytest.fixture(autouse=True)
def disc_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        return (disc_sample(i, patient=f"p{i // 2}") for i in range(12))

    monkeypatch.setattr(datasets, "READERS", {"discs": read})
    torch.set_num_threads(1)


def trial(
    folder: Path,
    *,
    experiment: Experiment = DISCS,
    short: bool = False,
    splits: list[int] | None = None,
    rank: int = 0,
) -> Trial:
    return Trial(
        experiment,
        folder,
        folder / "run",
        short=short,
        seed=0,
        processes=Processes(rank, 1, torch.device("cpu")),
        console=Console(file=io.StringIO()),
        splits=splits,
    )


def test_a_trial_learns_what_it_is_shown(tmp_path: Path) -> None:
    result = trial(tmp_path, splits=[0]).train()
    assert result["measures"]["infection/dice_global"]["mean"] > 0.5
    assert result["splits"][0]["loss_last"] < result["splits"][0]["loss_first"]


def test_the_result_says_how_it_came_about(tmp_path: Path) -> None:
    result = trial(tmp_path, short=True).train()
    assert result["short"] is True
    assert (result["splits_done"], result["splits_all"], result["split_by"]) == (3, 3, "patient")
    assert result["length"] == "2 epochs at 32x32"
    assert result["published"] == [
        {"measure": "infection/dice_global", "mean": 0.7, "place": "table 1", "standard_deviation": None}
    ]
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_a_short_form_sees_images_of_the_size_that_it_names(tmp_path: Path) -> None:
    smaller = replace(DISCS, short=Short(epochs=1, size=(16, 16)))
    begun = trial(tmp_path, experiment=smaller, short=True, splits=[0])
    assert begun.prepared[0].image.shape == (1, 16, 16)
    assert begun.train()["length"] == "1 epochs at 16x16"


def test_splits_can_be_trained_one_by_one(tmp_path: Path) -> None:
    assert trial(tmp_path, short=True, splits=[1]).train()["splits_done"] == 1
    assert trial(tmp_path, short=True, splits=[0, 1]).train()["splits_done"] == 2


def test_the_weights_load_without_training_and_give_the_same_figures(tmp_path: Path) -> None:
    trained = trial(tmp_path, short=True, splits=[0]).train()
    _, card = load(tmp_path / "run" / "split-0" / "weights.safetensors")
    assert card.classes == ("background", "infection")
    assert card.licence == "Apache-2.0 AND CC-BY-NC-SA-4.0"
    again = trial(tmp_path, short=True, splits=[0]).evaluate()
    speed = "seconds_per_slice"
    assert {k: v for k, v in again["measures"].items() if k != speed} == {
        k: v for k, v in trained["measures"].items() if k != speed
    }


def test_scans_get_pictures_beside_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        return (disc_sample(i, patient=f"p{i}", slices=10) for i in range(4))

    monkeypatch.setattr(datasets, "READERS", {"discs": read})
    trial(tmp_path, short=True, splits=[0]).train()
    assert "disc-" in (tmp_path / "run" / "split-0" / "area-plots-infection.svg").read_text()
    assert Image.open(tmp_path / "run" / "split-0" / "slices-infection.jpg").width == 4 * TILE


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


def test_a_folder_with_what_a_benchmark_measured_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text('{"experiment": "wu-thresholds", "short": false}')
    with pytest.raises(SettingsError, match="holds wu-thresholds; choose another folder"):
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


def test_processes_of_torchrun_share_a_folder(tmp_path: Path) -> None:
    leader = trial(tmp_path, short=True)
    assert trial(tmp_path, short=True, rank=1).splits == leader.splits


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
    monkeypatch.setattr("training.trial.measure", lambda judged, names: {"later": 0.5})
    measures = trial(tmp_path, short=True, splits=[0]).evaluate()["measures"]
    assert measures["later"] == {"mean": 0.5, "standard_deviation": None, "count": 1}
    assert measures["infection/dice_global"]["count"] == 1


def test_only_the_leader_of_torchrun_writes_what_it_evaluates(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[0]).train()
    (tmp_path / "run" / "split-0" / "weights.safetensors").write_bytes(b"damaged")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert trial(tmp_path, short=True, rank=1).evaluate()["splits_done"] == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_damaged_weights_are_refused_by_name(tmp_path: Path) -> None:
    trial(tmp_path, short=True, splits=[0]).train()
    (tmp_path / "run" / "split-0" / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(SettingsError, match=r"weights\.safetensors"):
        trial(tmp_path, short=True).evaluate()


def test_a_network_that_gives_other_classes_is_refused(tmp_path: Path) -> None:
    four_classes = replace(DISCS, arguments={"classes": 4})
    with pytest.raises(SettingsError, match="does not give 2 classes"):
        trial(tmp_path, experiment=four_classes, short=True).train()


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"splits are 0 to 2, got \[3\]"):
        trial(tmp_path, short=True, splits=[3])


def test_a_run_on_other_data_sets_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.READERS, "mine", datasets.READERS["discs"])  # type: ignore[misc]  # the fixture's is a dict
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
    """Train a first run, and return an experiment that begins with its weights."""
    trial(folder, short=True, splits=[0]).train()
    (folder / "run").rename(folder / "first")
    return replace(DISCS, pretrained=Path("first", "split-0", "weights.safetensors"))


def train_the_pretrained_again(folder: Path) -> None:
    """Put other weights where an experiment begins."""
    path = folder / "first" / "split-0" / "weights.safetensors"
    network, card = load(path)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    save(path, network, card)


def test_missing_pretrained_weights_are_noticed_before_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="train them first"):
        trial(tmp_path, experiment=replace(DISCS, pretrained=Path("first", "weights.safetensors")))
    assert not (tmp_path / "run" / "prepared").exists()


OWN = replace(DISCS, data=("labels",))


@pytest.fixture
def label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(datasets.READERS, "labels", datasets.READERS["discs"])  # type: ignore[misc]  # the fixture's is a dict
    label = tmp_path / "labels" / "anna" / "infection.nii.gz"
    label.parent.mkdir(parents=True)
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
    label.with_name("berta.nii.gz").touch()
    assert trial(tmp_path, experiment=OWN, short=True).evaluate()["splits_done"] == 1
    with pytest.raises(SettingsError, match="others than when"):
        trial(tmp_path, experiment=OWN, short=True).train()


def test_changed_files_are_not_prepared_for_weights_that_learned_from_others(tmp_path: Path, label: Path) -> None:
    trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()
    label.write_bytes(b"later")
    shutil.rmtree(tmp_path / "run" / "prepared")
    with pytest.raises(SettingsError, match="others than when"):
        trial(tmp_path, experiment=OWN, short=True)


def test_patients_added_to_a_run_of_too_few_need_another_folder(tmp_path: Path, label: Path) -> None:
    many = replace(OWN, split=KFold(folds=7))
    with pytest.raises(SettingsError, match="only 6 patients"):
        trial(tmp_path, experiment=many, short=True)
    label.with_name("berta.nii.gz").touch()
    with pytest.raises(SettingsError, match="others than when"):
        trial(tmp_path, experiment=many, short=True)


def test_a_run_below_the_data_goes_on(tmp_path: Path, label: Path) -> None:
    (tmp_path / "labels").rename(tmp_path / "patients")
    trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()
    assert trial(tmp_path, experiment=OWN, short=True, splits=[1]).train()["splits_done"] == 2


def test_a_run_begins_once_what_was_wrong_with_the_data_is_mended(
    tmp_path: Path, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        raise BadData("wrong-shape", f"{folder}: two axes")

    with monkeypatch.context() as broken:
        broken.setitem(datasets.READERS, "labels", read)  # type: ignore[misc]  # the fixture's is a dict
        with pytest.raises(BadData):
            trial(tmp_path, experiment=OWN, short=True)
    label.write_bytes(b"mended")
    assert trial(tmp_path, experiment=OWN, short=True, splits=[0]).train()["splits_done"] == 1


def test_another_runs_folder_is_refused_before_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Iterator[Sample]:
        raise AssertionError("read")

    trial(tmp_path, short=True)
    shutil.rmtree(tmp_path / "run" / "prepared")
    monkeypatch.setitem(datasets.READERS, "discs", read)  # type: ignore[misc]  # the fixture's is a dict
    with pytest.raises(SettingsError, match="choose another folder"):
        trial(tmp_path, short=False)
