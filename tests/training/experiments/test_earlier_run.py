from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from training.experiments.earlier_run import earlier_run
from training.files import write_json


def write_run(runs: Path, done: int, short: bool) -> None:
    (runs / "folds").mkdir()
    write_json(runs / "folds" / "result.json", {"splits_done": done, "splits_all": 3, "short": short})


def test_a_finished_run_is_found(tmp_path: Path) -> None:
    write_run(tmp_path, done=3, short=False)
    assert earlier_run(tmp_path, "folds", short=False) == tmp_path / "folds"


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"expected the run folds in .*; train it first"):
        earlier_run(tmp_path, "folds", short=True)


def test_nothing_is_measured_on_some_splits_alone(tmp_path: Path) -> None:
    write_run(tmp_path, done=2, short=False)
    with pytest.raises(SettingsError, match="2 of 3 splits; train the others first"):
        earlier_run(tmp_path, "folds", short=True)


def test_what_is_measured_on_a_short_run_is_short(tmp_path: Path) -> None:
    write_run(tmp_path, done=3, short=True)
    assert earlier_run(tmp_path, "folds", short=True) == tmp_path / "folds"
    with pytest.raises(SettingsError, match="--short"):
        earlier_run(tmp_path, "folds", short=False)
