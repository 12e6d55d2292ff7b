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
from worker.reports.history import History
from worker.reports.page import draw_page, fitting, wrap
from worker.reports.sr import ranked_sentences

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


TWO_LINES = "word " * 40
BOTTOM = 1634
"""From this row on the warning has the page to itself."""


@pytest.mark.parametrize("count", [12, 22, 200])
def test_the_picture_stands_below_the_words_however_many(count: int) -> None:
    red = Image.new("RGB", (1280, 1060), (200, 0, 0))

    page = np.asarray(draw_page(Dataset(), [TWO_LINES] * count, red))

    rows = np.flatnonzero((page == (200, 0, 0)).all(-1).any(1))
    assert rows.size > 500
    assert (page[: rows[0]] == 255).mean() > 0.8
    assert rows[-1] < page.shape[0] - 90  # the picture ends above the warning


@pytest.mark.parametrize("words", [[TWO_LINES] * 200, ["word " * 10_000]], ids=["many", "long"])
def test_words_without_a_picture_end_above_the_warning(words: list[str]) -> None:
    blank = np.asarray(draw_page(Dataset(), [], None))

    page = np.asarray(draw_page(Dataset(), words, None))

    np.testing.assert_array_equal(page[BOTTOM:], blank[BOTTOM:])


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")
def test_nothing_on_the_page_reaches_into_its_margins() -> None:
    identity = Dataset()
    identity.PatientID, identity.IssuerOfPatientID = "M" * 64, "M" * 5000

    page = np.asarray(draw_page(identity, ["M" * 300, "M " * 300], None))

    assert (page[:, 1175:] == 255).all()


def test_words_that_fit_stand_all_on_the_page() -> None:
    assert fitting(["one", TWO_LINES, "three"], 200) == [["one"], wrap(TWO_LINES), ["three"]]


def test_what_does_not_fit_is_counted_and_said_to_stand_in_the_report() -> None:
    *shown, last = fitting([f"{number} {TWO_LINES}" for number in range(30)], 500)

    assert len(shown) < 10
    missing = 30 - len(shown)
    assert " ".join(last) == (
        f"Not on this page, or not whole: {missing} of 30 remarks. The structured report has them all."
    )


def test_words_stand_whole_on_the_page_or_not_at_all() -> None:
    words = [f"{number} {TWO_LINES}" for number in range(30)]

    for room in range(200, 400, 10):
        *shown, _ = fitting(words, room)
        assert [" ".join(lines) for lines in shown] == [text.strip() for text in words[: len(shown)]]


@pytest.mark.parametrize("long", ["word " * 10_000, "M" * 10_000])
def test_very_long_words_are_cut_for_those_after_them(long: str) -> None:
    cut, short, last = fitting([long, "and more"], 1000)

    assert cut[-1].endswith("[...]")
    assert short == ["and more"]
    assert last == ["Not on this page, or not whole: 1 of 2 remarks. The structured report has them all."]


def test_the_page_takes_the_most_important_sentences_first(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def draw(identity: Dataset, texts: list[str], picture: Image.Image | None) -> Image.Image:
        drawn.extend(texts)
        return draw_page(identity, texts, picture)

    monkeypatch.setattr("worker.reports.write.draw_page", draw)
    page_of(result, tmp_path / "out")

    assert drawn == ranked_sentences(result.findings, History(None, (), None, ()))
