import errno
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dicom_node.cli import main
from dicom_node.errors import SettingsError
from training import experiments
from training.experiment import Benchmark, Experiment, Short
from training.experiments import REGISTRY, find
from training.files import write_json
from training.prepare.preprocess import Preprocess
from training.run import listing, print_result


def test_listing_the_commands_imports_nothing_heavy() -> None:
    code = "import sys, training.commands; print({'torch', 'numpy', 'rich', 'monai'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_the_list_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments"]) == 0
    out = capsys.readouterr().out
    assert all(re.sub(r"setting-\d", "setting-N", name) in out for name in REGISTRY)


def test_the_list_names_each_paper_once_with_all_that_it_trained_and_measured() -> None:
    lines = list(listing(REGISTRY))
    shivdeo = lines[lines.index("Shivdeo et al. 2021") :]
    shivdeo = shivdeo[: shivdeo.index("")]
    assert lines.count("Shivdeo et al. 2021") == 1
    assert "  shivdeo-2d                      table 2                infection-slices" in shivdeo
    assert "  shivdeo-inference-time          table 3                measured, not trained" in shivdeo


def test_an_unknown_experiment_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean saood-segnet-binary"):
        find("saod-segnet-binary")
    with pytest.raises(SettingsError, match="did you mean chest-own"):
        find("own")


def test_every_network_of_the_papers_has_an_experiment() -> None:
    trained = {e.network for e in REGISTRY.values() if isinstance(e, Experiment)}
    assert trained >= {
        "unet",
        "unet-2.5d",
        "xception-unet",
        "vnet",
        "vnet-wide",
        "segnet",
        "segnet-vgg16",
        "dense-unet-569",
    }
    assert sum(isinstance(e, Benchmark) for e in REGISTRY.values()) >= 4


def test_a_run_is_trained_evaluated_and_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "data" / "medseg100" / "dataset" / "im" / "256"
    masks = tmp_path / "data" / "medseg100" / "dataset" / "mask" / "multi" / "256"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(1, 9):
        mask = np.where(random.random((16, 16)) < 0.3, 85, 0).astype(np.uint8)
        Image.fromarray(mask).save(masks / f"tr_mask_z{number:03d}.png")
        Image.fromarray(mask).save(images / f"i{number:03d}.png")
    data, run = str(tmp_path / "data"), str(tmp_path / "runs" / "a")
    name = "saood-segnet-binary"
    full = find(name)
    assert isinstance(full, Experiment)
    tiny = replace(full, data=("elsewhere",), preprocess=Preprocess((16, 16)), short=Short(epochs=1))
    monkeypatch.setattr(experiments, "REGISTRY", {name: tiny})
    train = ["train", name, "--data", data, "--out", run, "--short", "--splits", "0", "--threads", "1"]
    assert main([*train, "--sets", "medseg100"]) == 0
    assert "0.703 ± 0.055 (table 7)" in capsys.readouterr().out.replace("\n", " ")
    assert main(["evaluate", run, "--data", data, "--splits", "0"]) == 0
    page = tmp_path / "experiments.md"
    assert main(["experiments", "--runs", str(tmp_path / "runs"), "--write", str(page)]) == 0
    assert "SHORT: 1 epochs at 16x16, batches of 4, initial rate 0.001; on medseg100;" in page.read_text()


@pytest.mark.parametrize("option", [["--sets", "labels"], ["--seed", "0"], ["--splits", "0"]])
def test_a_benchmark_is_not_measured_with_what_it_would_not_heed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["train", "wu-thresholds", "--data", str(tmp_path), "--out", out, *option]) == 1
    assert f"leave {option[0]} out" in capsys.readouterr().err


def test_a_benchmark_has_no_weights_to_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").write_text('{"experiment": "wu-thresholds"}')
    assert main(["evaluate", str(tmp_path), "--data", str(tmp_path)]) == 1
    assert "wu-thresholds has no weights; `hilum train` measures it again" in capsys.readouterr().err


def test_a_folder_that_no_run_has_filled_has_nothing_to_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path), "--data", str(tmp_path)]) == 1
    assert "expected the folder that `hilum train` has filled as --out" in capsys.readouterr().err


def test_the_folder_of_a_split_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").write_text('{"split": 0}')
    assert main(["evaluate", str(tmp_path), "--data", str(tmp_path)]) == 1
    assert "expected the folder that `hilum train` has filled as --out" in capsys.readouterr().err


def test_brackets_in_a_patients_name_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    dice = {"mean": 0.5, "standard_deviation": None}
    counts = {"splits": [], "splits_all": 0, "parameters": 0, "seed": 0, "short": False}
    texts = dict.fromkeys(("experiment", "paper", "length", "source", "device", "torch"), "any")
    figures = {"measures": {"infection/dice/anna [copy]": dice}, "published": []}
    print_result({**counts, **texts, **figures}, Console())
    assert "infection/dice/anna [copy] " in capsys.readouterr().out


def test_a_page_is_not_written_about_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "experiments.md"
    assert main(["experiments", "--write", str(page)]) == 1
    assert "name the folder of the runs with --runs" in capsys.readouterr().err
    assert not page.exists()


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "wu"
    run.mkdir()
    write_json(run / "result.json", {"experiment": "wu-thresholds"})
    (tmp_path / "folder.md").mkdir()
    for page, reason in (("folder.md", "is a folder"), ("missing/page.md", "there is no folder")):
        assert main(["experiments", "--runs", str(tmp_path), "--write", str(tmp_path / page)]) == 1
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--threads", "0"), ("--threads", "-1"), ("--seed", "-1")])
def test_a_number_that_is_too_small_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "chest-own", "--data", str(tmp_path), "--out", str(tmp_path / "run"), *option])
    assert f"argument {option[0]}: expected {int(option[0] == '--threads')} or more" in capsys.readouterr().err


def test_a_file_is_no_runs_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").touch()
    for out in ("run", "run/below"):
        assert main(["train", "saood-segnet-binary", "--data", str(tmp_path), "--out", str(tmp_path / out)]) == 1
        assert f"{out} cannot be a run's folder" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("error", "free"),
    [(OSError(errno.ENOSPC, "No space left on device"), 2**40), (RuntimeError("file write failed"), 0)],
)
def test_a_full_disk_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    free: int,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("training.run.make_trial", fail)
    monkeypatch.setattr("training.run.shutil.disk_usage", lambda path: Namespace(free=free))
    assert main(["train", "chest-own", "--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert f"no space is left for {tmp_path}" in capsys.readouterr().err


def test_an_error_on_a_disk_with_room_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("another cause")

    monkeypatch.setattr("training.run.make_trial", fail)
    with pytest.raises(RuntimeError, match="another cause"):
        main(["train", "chest-own", "--data", str(tmp_path), "--out", str(tmp_path)])
