from __future__ import annotations

import errno
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.errors import NotAnalysable, PassingFailure
from dicom_node.settings import ReportSettings
from tests.worker.reports.results import MADE_AT, THRESHOLDS, Result, make_result
from worker.reports import write_refusal, write_reports
from worker.reports.revision import read_earlier

GAPS = NotAnalysable("missing-slices", "expected a slice every 6 mm, got gaps")
HEAD = bytes(128) + b"DICM"
WITH_NOTE = ReportSettings(rejection_note=True)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make_result(tmp_path_factory.mktemp("first"))


def revise(first: Result, out: Path, settings: ReportSettings) -> dict[str, Dataset]:
    """Answer the study again, replacing the first result; return the objects by kind."""
    earlier = [item.path for item in first.objects]
    written = write_reports(first.volume, first.findings, out, settings, MADE_AT, earlier)
    return {item.kind: dcmread(item.path) for item in written}


def test_a_first_report_names_no_predecessor(first: Result) -> None:
    assert "PredecessorDocumentsSequence" not in first.read("report")


def test_a_revised_report_names_the_report_before_it(first: Result, tmp_path: Path) -> None:
    report = revise(first, tmp_path, ReportSettings())["report"]

    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    before = first.read("report")
    assert (study.StudyInstanceUID, series.SeriesInstanceUID, instance.ReferencedSOPInstanceUID) == (
        before.StudyInstanceUID,
        before.SeriesInstanceUID,
        before.SOPInstanceUID,
    )


def test_a_revised_result_has_uids_of_its_own(first: Result, tmp_path: Path) -> None:
    revised = revise(first, tmp_path, ReportSettings())

    assert not {ds.SOPInstanceUID for ds in revised.values()} & {item.sop_instance_uid for item in first.objects}


def test_a_note_withdraws_all_of_the_earlier_result_and_nothing_else(first: Result, tmp_path: Path) -> None:
    note = revise(first, tmp_path, WITH_NOTE)["rejection-note"]

    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator, note.Modality) == ("113001", "DCM", "KO")
    referred = {
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for i in note.ContentSequence
        if "ReferencedSOPSequence" in i
    }
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    evidence = {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
    assert referred == evidence == {item.sop_instance_uid for item in first.objects}


def test_nothing_is_withdrawn_unless_the_setting_says_so(first: Result, tmp_path: Path) -> None:
    assert "rejection-note" not in revise(first, tmp_path, ReportSettings())


def test_a_first_result_withdraws_nothing(first: Result, tmp_path: Path) -> None:
    written = write_reports(first.volume, first.findings, tmp_path, WITH_NOTE, MADE_AT)

    assert "rejection-note" not in {item.kind for item in written}


def test_a_refusal_replaces_a_measurement_too(first: Result, tmp_path: Path) -> None:
    paths = [slice_.path for slice_ in first.volume.slices]
    earlier = [item.path for item in first.objects]

    report, note = write_refusal(paths, GAPS, THRESHOLDS, tmp_path, WITH_NOTE, MADE_AT, earlier)

    assert "PredecessorDocumentsSequence" in dcmread(report.path)
    assert note.kind == "rejection-note"


def test_a_note_tells_no_reason_that_may_be_false(first: Result, tmp_path: Path) -> None:
    """A refusal may be replaced without new images: `hilum retry` measures studies whose jobs were given up."""
    paths = [slice_.path for slice_ in first.volume.slices]
    (given_up,) = write_refusal(paths, GAPS, THRESHOLDS, tmp_path, made_at=MADE_AT)

    measured = write_reports(first.volume, first.findings, tmp_path, WITH_NOTE, MADE_AT, [given_up.path])

    note = dcmread(next(item.path for item in measured if item.kind == "rejection-note"))
    described = (113012, "Replaced by a new result of the same study.")  # Key Object Description (TID 2010)
    names = [item.get("ConceptNameCodeSequence") for item in note.ContentSequence]
    told = [(int(n[0].CodeValue), i.get("TextValue")) for n, i in zip(names, note.ContentSequence, strict=True) if n]
    assert described in told


def test_what_retention_removed_is_not_named(first: Result, tmp_path: Path) -> None:
    gone = [tmp_path / "gone.dcm"]

    written = write_reports(first.volume, first.findings, tmp_path, WITH_NOTE, MADE_AT, gone)

    assert "rejection-note" not in {item.kind for item in written}


@pytest.mark.parametrize("content", [b"", b"no DICOM", HEAD + b"\x08\x00\x60\x00CS\xff\xff", HEAD])
def test_what_is_damaged_is_logged_and_not_named(
    first: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(content)
    earlier = [damaged, *(item.path for item in first.objects)]

    written = write_reports(first.volume, first.findings, tmp_path, WITH_NOTE, MADE_AT, earlier)

    note = dcmread(next(item.path for item in written if item.kind == "rejection-note"))
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    withdrawn = [ref for series in study.ReferencedSeriesSequence for ref in series.ReferencedSOPSequence]
    assert {ref.ReferencedSOPInstanceUID for ref in withdrawn} == {item.sop_instance_uid for item in first.objects}
    assert "earlier_result_damaged" in "".join(capsys.readouterr())


def test_a_storage_that_fails_may_give_the_earlier_result_later(
    first: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Dataset:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("worker.reports.revision.dcmread", fail)
    with pytest.raises(PassingFailure):
        read_earlier([item.path for item in first.objects])
