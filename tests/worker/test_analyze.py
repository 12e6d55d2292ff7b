"""`hilum analyze` of a folder that is not a study's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node import cli
from tests.factories import ct_series


def test_two_studies_in_a_folder_are_not_measured_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in ("1", "2"):
        ct_series(tmp_path / "in" / number, np.zeros((12, 8, 8), np.int16), StudyInstanceUID=f"1.2.{number}")
    assert cli.main(["analyze", "in", "--out", "out"]) == 1
    assert "got 2 studies" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_that_cannot_be_written_are_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ct_series(tmp_path / "in", np.zeros((12, 8, 8), np.int16))
    (tmp_path / "out").write_text("in the way")
    assert cli.main(["analyze", "in", "--out", "out"]) == 1
    assert "--out out cannot be written: File exists" in capsys.readouterr().err
