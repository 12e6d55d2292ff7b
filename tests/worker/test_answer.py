from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.errors import NotAnalysable
from dicom_node.settings import ReportSettings
from dicom_node.study import JobState
from tests.factories import chest_hu, ct_series
from worker.answer import Answer, answer_study
from worker.findings import Algorithm
from worker.pipeline import THRESHOLDS

HU, _, _ = chest_hu()


def answer(paths: list[Path], out: Path, rejection: NotAnalysable | None = None) -> Answer:
    return answer_study(paths, rejection, out, ReportSettings(), lambda *_: None)


def test_a_measured_series_is_done_with_its_objects(tmp_path: Path) -> None:
    found = answer(ct_series(tmp_path / "ct", HU), tmp_path / "out")

    assert found.ending.state is JobState.DONE
    assert {item.kind for item in found.objects} >= {"lungs", "infection", "report", "key-image"}
    assert found.ending.infected_percent is not None
    assert found.ending.outcome == json.loads((tmp_path / "out" / "results.json").read_text())["outcome"]


def test_a_series_with_a_gap_is_refused_with_a_report(tmp_path: Path) -> None:
    paths = ct_series(tmp_path / "ct", HU, keep=[n for n in range(40) if n != 20])

    found = answer(paths, tmp_path / "out")

    assert (found.ending.state, found.ending.code) == (JobState.REFUSED, "missing-slices")
    assert found.ending.outcome == "not-analysable"
    assert [item.kind for item in found.objects] == ["report"]


@pytest.mark.parametrize("rejection_note", [True, False])
def test_the_setting_decides_whether_a_note_withdraws_the_answer_before(tmp_path: Path, rejection_note: bool) -> None:
    paths, reason = ct_series(tmp_path / "ct", HU[:5]), NotAnalysable("too-few-slices", "expected 10 slices, got 5")
    earlier = [item.path for item in answer(paths, tmp_path / "first", reason).objects]

    choices = ReportSettings(rejection_note=rejection_note)
    again = answer_study(paths, reason, tmp_path / "again", choices, lambda *_: None, earlier)

    assert ("rejection-note" in {item.kind for item in again.objects}) == rejection_note


def test_slices_that_cannot_be_told_apart_are_refused_with_a_report(tmp_path: Path) -> None:
    found = answer(ct_series(tmp_path / "ct", HU, SOPInstanceUID="1.2.3"), tmp_path / "out")

    assert (found.ending.state, found.ending.code) == (JobState.REFUSED, "shared-uids")
    assert [dcmread(item.path).Modality for item in found.objects] == ["SR"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_chest_to_which_no_report_can_refer_is_set_aside_with_the_reason(tmp_path: Path) -> None:
    paths = ct_series(tmp_path / "ct", HU[:5], SeriesInstanceUID="")

    found = answer(paths, tmp_path / "out", NotAnalysable("no-fitting-series", "expected at least 10 slices, got 5"))

    assert (found.ending.state, found.ending.code, found.objects) == (JobState.SET_ASIDE, "no-uids", ())
    assert "got none: nothing can refer to them" in found.ending.message


def test_a_study_is_measured_by_the_method_given_and_a_refusal_names_it_too(tmp_path: Path) -> None:
    method = replace(THRESHOLDS, algorithm=Algorithm("Another", "1"))
    folders = (ct_series(tmp_path / "whole", HU), ct_series(tmp_path / "gap", HU, keep=[0, 1, *range(3, 40)]))
    for paths in folders:
        out = tmp_path / paths[0].parent.name / "out"
        answer_study(paths, None, out, ReportSettings(), lambda *_: None, method=method)
        (report,) = (dcmread(path) for path in out.glob("*.dcm") if dcmread(path).Modality == "SR")
        assert "Another" in str(report)
