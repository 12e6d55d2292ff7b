"""`hilum analyze`: its folders and their errors, and the comparison with earlier studies."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node import cli
from dicom_node.study import Ending, JobState
from tests.factories import chest_hu, ct_series
from tests.worker.reports.content import texts
from worker.analyze import print_answer, remove_result
from worker.answer import Answer


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


HU, _, INFECTION = chest_hu()
ANNA: dict[str, Any] = {"PatientID": "4711", "StudyTime": "101112"}


def test_the_folder_of_the_results_is_closed_to_other_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ct_series(tmp_path / "in", HU[:5], StudyDescription="Chest")
    assert cli.main(["analyze", "in", "--out", "out"]) == 1  # too short to measure, so the report says that
    assert (tmp_path / "out" / "report.dcm").exists()
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_a_result_replaces_the_one_before_it_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    objects = [{"path": name} for name in ("lungs.dcm", "report.dcm", "../kept.dcm", "images", "gone.dcm", 7)]
    (out / "results.json").write_text(json.dumps({"objects": objects}))
    (out / "images").mkdir()
    for name in ("lungs.dcm", "report.dcm", "key-image.png", "notes.txt", "../kept.dcm"):
        (out / name).write_text("another patient's")
    ct_series(tmp_path / "in", HU[:5], StudyDescription="Chest")

    assert cli.main(["analyze", "in", "--out", "out"]) == 1  # too short to measure, so there is only a report

    assert {path.name for path in out.iterdir()} == {"report.dcm", "results.json", "notes.txt", "images"}
    assert dcmread(out / "report.dcm").Modality == "SR"
    assert (tmp_path / "kept.dcm").exists()


@pytest.mark.parametrize("content", ["", "[]", "7", "{}", '{"objects": 7}', '{"objects": [7]}'])
def test_what_is_no_result_is_not_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    (tmp_path / "key-image.png").write_text("somebody's")
    remove_result(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "key-image.png"}


@pytest.fixture
def follow_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study in "now" and an earlier one in "before"."""
    monkeypatch.chdir(tmp_path)
    ct_series(tmp_path / "now", HU, StudyDate="20240301", **ANNA)
    ct_series(tmp_path / "before", chest_hu(infected=False)[0], StudyDate="20240228", **ANNA)
    return tmp_path


def test_a_prior_without_a_report_is_measured_and_compared_with(follow_up: Path) -> None:
    assert cli.main(["analyze", "now", "--out", "out", "--prior", "before"]) == 0

    before = dcmread(follow_up / "before" / "0001.dcm").StudyInstanceUID
    comparison = json.loads((follow_up / "out" / "results.json").read_text())["comparison"]
    assert comparison["prior_study_instance_uid"] == before
    assert comparison["infection_ml"] == pytest.approx(INFECTION.sum() * 6 * 3 * 3 / 1000, rel=0.02)
    assert (comparison["hours_since"], comparison["prior_was_measured_now"]) == (48, True)
    report = dcmread(follow_up / "out" / "report.dcm")
    assert "For the comparison the prior study of 2024-02-28 was measured now, in the same way." in str(texts(report))
    (evidence,) = report.PertinentOtherEvidenceSequence
    assert evidence.StudyInstanceUID == before
    assert len(evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence) == len(HU)
    assert (follow_up / "out" / "trend.dcm").exists()
    written = [dcmread(path, stop_before_pixels=True) for path in (follow_up / "out").glob("*.dcm")]
    assert before not in {ds.StudyInstanceUID for ds in written}


def test_another_prior_makes_other_results(follow_up: Path) -> None:
    cli.main(["analyze", "now", "--out", "alone"])
    cli.main(["analyze", "now", "--out", "compared", "--prior", "before"])

    alone, compared = (dcmread(follow_up / out / "report.dcm").SOPInstanceUID for out in ("alone", "compared"))
    assert alone != compared


def test_a_prior_of_somebody_else_is_refused_by_its_folder(follow_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ct_series(follow_up / "other", HU, StudyDate="20240227", **(ANNA | {"PatientID": "4712"}))

    assert cli.main(["analyze", "now", "--out", "out", "--prior", "before", "--prior", "other"]) == 1

    assert "--prior other: expected a prior of the same patient" in capsys.readouterr().err
    assert list((follow_up / "out").iterdir()) == []


def test_a_prior_that_cannot_be_measured_is_said_by_its_folder(
    follow_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (follow_up / "before" / "0011.dcm").unlink()

    assert cli.main(["analyze", "now", "--out", "out", "--prior", "before"]) == 1

    assert "--prior before: " in capsys.readouterr().err
    assert list((follow_up / "out").iterdir()) == []


def test_a_study_that_selection_rejects_is_answered_without_a_look_at_its_priors(
    follow_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct_series(follow_up / "short", HU[:5], StudyDescription="Chest", StudyDate="20240301", **ANNA)

    assert cli.main(["analyze", "short", "--out", "out", "--prior", "nowhere"]) == 1

    assert capsys.readouterr().out.startswith("not measured: no series can be measured")
    assert (follow_up / "out" / "report.dcm").exists()


def test_a_percentage_is_told_as_the_report_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(Answer(Ending(JobState.DONE, infected_percent=0.03)), tmp_path)
    assert capsys.readouterr().out == "PoIR < 0.1 % of the lung\n"


def use_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both standard streams be one terminal."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", sys.stdout)


@pytest.mark.usefixtures("follow_up")
def test_the_progress_is_gone_from_a_terminal_before_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_a_terminal(monkeypatch)

    assert cli.main(["analyze", "now", "--out", "out"]) == 0

    assert "90% writing the reports\r\033[KPoIR 2.4 % of the lung\n" in capsys.readouterr().out


def test_the_progress_is_gone_from_a_terminal_before_an_error(
    follow_up: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_a_terminal(monkeypatch)
    (follow_up / "before" / "0011.dcm").unlink()

    assert cli.main(["analyze", "now", "--out", "out", "--prior", "before"]) == 1

    assert "0% the prior: reading the series\r\033[Khilum: --prior before: " in capsys.readouterr().out
