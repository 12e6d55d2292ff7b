import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from training.benchmark import run_benchmark
from training.claim import lock
from training.experiment import Benchmark
from training.files import write_json


def measure(data: Path, folder: Path, short: bool) -> Mapping[str, float]:
    return {"answer": 1.0 if short else 42.0}


ANSWER = Benchmark(name="answer", paper="nobody", measure=measure)


def never(data: Path, folder: Path, short: bool) -> Mapping[str, float]:
    raise AssertionError("measured")


NEVER = replace(ANSWER, measure=never)


def answer(folder: Path) -> float:
    mean: float = json.loads((folder / "result.json").read_text())["measures"]["answer"]["mean"]
    return mean


def test_a_benchmark_is_measured_again_in_its_folder(tmp_path: Path) -> None:
    for short in (True, False, False):
        run_benchmark(ANSWER, tmp_path, tmp_path / "run", short=short)
    assert answer(tmp_path / "run") == 42


def test_a_benchmark_is_told_its_own_folder_for_its_pictures(tmp_path: Path) -> None:
    told = []

    def draw(data: Path, folder: Path, short: bool) -> Mapping[str, float]:
        told.append(folder)
        return {}

    run_benchmark(replace(ANSWER, measure=draw), tmp_path, tmp_path / "elsewhere", short=False)
    assert told == [tmp_path / "elsewhere"]
    assert told[0].is_dir()


def test_a_short_form_is_not_measured_over_a_full_one(tmp_path: Path) -> None:
    run_benchmark(ANSWER, tmp_path, tmp_path / "run", short=False)
    with pytest.raises(SettingsError, match="measured in full"):
        run_benchmark(NEVER, tmp_path, tmp_path / "run", short=True)
    assert answer(tmp_path / "run") == 42


@pytest.mark.parametrize("file", ["result.json", "trial.json"])
def test_a_benchmark_is_not_measured_over_another_run(tmp_path: Path, file: str) -> None:
    write_json(tmp_path / file, {"experiment": "wu-lung-unet", "short": True})
    with pytest.raises(SettingsError, match="holds wu-lung-unet; choose another folder"):
        run_benchmark(NEVER, tmp_path, tmp_path, short=False)


def test_a_benchmark_is_not_measured_where_another_process_works(tmp_path: Path) -> None:
    held = lock(tmp_path / "run")
    with pytest.raises(SettingsError, match="another process works in"):
        run_benchmark(NEVER, tmp_path, tmp_path / "run", short=True)
    os.close(held)


def test_another_benchmark_is_refused_where_one_was_interrupted(tmp_path: Path) -> None:
    def interrupted(data: Path, folder: Path, short: bool) -> Mapping[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(replace(ANSWER, measure=interrupted), tmp_path, tmp_path / "run", short=True)
    with pytest.raises(SettingsError, match="holds answer; choose another folder"):
        run_benchmark(replace(NEVER, name="other"), tmp_path, tmp_path / "run", short=True)


def test_the_short_form_may_follow_a_full_one_that_measured_nothing(tmp_path: Path) -> None:
    def unready(data: Path, folder: Path, short: bool) -> Mapping[str, float]:
        raise SettingsError("short-run", "a run is short; train it in full length, or measure it with --short")

    with pytest.raises(SettingsError, match="or measure it with --short"):
        run_benchmark(replace(ANSWER, measure=unready), tmp_path, tmp_path / "run", short=False)
    run_benchmark(ANSWER, tmp_path, tmp_path / "run", short=True)
    assert answer(tmp_path / "run") == 1
