from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_node.errors import NotAnalysable
from dicom_node.settings import ReportSettings
from tests.worker.reports.results import MADE_AT, THRESHOLDS, Result, make_result
from worker.reports import write_refusal, write_reports
from worker.reports.page import draw_page

WITH_PAGE = ReportSettings(page=True)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make_result(tmp_path_factory.mktemp("result"))


def page_of(result: Result, out: Path) -> Dataset:
    out.mkdir()
    written = write_reports(result.volume, result.findings, out, WITH_PAGE, MADE_AT)
    return dcmread(next(item.path for item in written if item.kind == "page"))


def test_the_page_is_one_page_of_pdf_in_the_study(result: Result, tmp_path: Path) -> None:
    page = page_of(result, tmp_path / "out")

    pdf = page.EncapsulatedDocument[: page.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert b"/Count 1\n" in pdf
    assert (page.Modality, page.MIMETypeOfEncapsulatedDocument) == ("DOC", "application/pdf")
    assert page.StudyInstanceUID == result.read("report").StudyInstanceUID


def test_the_page_is_the_same_when_it_is_made_again(result: Result, tmp_path: Path) -> None:
    assert page_of(result, tmp_path / "one") == page_of(result, tmp_path / "two")


def test_the_page_names_the_slices_it_shows_as_its_source(result: Result, tmp_path: Path) -> None:
    shown = result.read("key-image").SourceImageSequence

    assert page_of(result, tmp_path / "out").SourceInstanceSequence == shown


def test_the_page_of_a_multi_frame_ct_names_its_object_once(tmp_path: Path) -> None:
    result = make_result(tmp_path / "result", multiframe=True)

    (source,) = page_of(result, tmp_path / "out").SourceInstanceSequence

    assert source.ReferencedSOPInstanceUID == result.volume.slices[0].sop_instance_uid


def test_there_is_no_page_unless_it_is_asked_for(result: Result) -> None:
    assert "page" not in {item.kind for item in result.objects}


def test_a_refusal_has_a_page_too(result: Result, tmp_path: Path) -> None:
    paths = [slice_.path for slice_ in result.volume.slices]

    written = write_refusal(paths, NotAnalysable("gap", "a gap"), THRESHOLDS, tmp_path, WITH_PAGE, MADE_AT)

    assert [item.kind for item in written] == ["report", "page"]
    named = [source.ReferencedSOPInstanceUID for source in dcmread(written[1].path).SourceInstanceSequence]
    assert sorted(named) == sorted(slice_.sop_instance_uid for slice_ in result.volume.slices)


def test_the_picture_stands_below_the_words_however_many() -> None:
    red = Image.new("RGB", (1280, 1060), (200, 0, 0))
    words = ["word " * 40] * 12

    page = np.asarray(draw_page(Dataset(), words, red))

    rows = np.flatnonzero((page == (200, 0, 0)).all(-1).any(1))
    assert rows.size > 300
    assert (page[: rows[0]] == 255).mean() > 0.8
    assert rows[-1] < page.shape[0] - 90  # the picture ends above the warning
