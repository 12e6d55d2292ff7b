"""OHIF shows the report as readable text for every outcome, and the key image as it was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from playwright.sync_api import Browser
from pydicom import dcmread

from dicom_node.errors import NotAnalysable
from tests.browser.conftest import SCREENSHOTS, store
from tests.browser.ohif import Viewer, opened
from tests.factories import chest_hu, ct_series
from tests.services import Orthanc
from tests.worker.reports.content import SITE_GROUPS
from tests.worker.reports.results import CUT_OFF, MADE_AT, SHAPE, THRESHOLDS, TILTED, Result, make_result
from worker.reports import write_refusal, write_reports
from worker.reports.outcome import conclusion

pytestmark = [pytest.mark.browser, pytest.mark.peer]

CAVEAT = "Not for diagnostic use."
GAPS = NotAnalysable("missing-slices", "expected a slice every 6 mm, got gaps; send the whole series again")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Result:
    folder = tmp_path_factory.mktemp("found")
    result = make_result(folder, flags=(TILTED,), PatientID="FOUND")
    store(orthanc, folder)
    return result


@pytest.fixture(scope="module")
def viewer(found: Result, browser: Browser, ohif_url: str) -> Iterator[Viewer]:
    with opened(browser, ohif_url, found.read("report").StudyInstanceUID) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def text(viewer: Viewer) -> str:
    return viewer.read_report("Hilum report")


def as_shown(value: float | None) -> str:
    """Return a figure with two decimals at most, as JavaScript writes it."""
    assert value is not None
    return str(round(value, 2)).removesuffix(".0")


def group(text: str, tracking_identifier: str) -> list[str]:
    """Return the lines that the viewer shows of a measurement group."""
    _, _, rest = text.partition(f"Tracking Identifier: {tracking_identifier}\n")
    return rest.partition("Measurement Group")[0].splitlines()


def test_the_report_says_the_result_in_words(found: Result, text: str) -> None:
    assert conclusion(found.findings) in text
    assert CAVEAT in text


def test_the_report_gives_every_figure_with_its_unit(found: Result, text: str) -> None:
    for truth in found.findings.measurements:
        lung, infection = SITE_GROUPS[truth.site]
        assert f"Volume: {as_shown(truth.lung_volume_ml)} mL" in group(text, lung)
        assert f"Volume: {as_shown(truth.infection_volume_ml)} mL" in group(text, infection)
        assert f"Proportion of infected region: {as_shown(truth.infected_percent)} %" in group(text, infection)


def test_the_conclusion_is_seen_without_scrolling(found: Result, viewer: Viewer) -> None:
    viewer.read_report("Hilum report")
    viewer.screenshot(SCREENSHOTS / "ohif-report.png")

    assert viewer.is_on_screen(conclusion(found.findings))


@pytest.mark.parametrize("outcome", ["nothing-found", "withheld"])
def test_the_report_of_each_measured_outcome_reads(
    tmp_path: Path, orthanc: Orthanc, browser: Browser, ohif_url: str, outcome: str
) -> None:
    flags = (CUT_OFF,) if outcome == "withheld" else ()
    result = make_result(tmp_path, infected=outcome != "nothing-found", flags=flags, PatientID=outcome)
    store(orthanc, tmp_path)

    with opened(browser, ohif_url, result.read("report").StudyInstanceUID) as viewer:
        text = viewer.read_report("Hilum report")

    assert conclusion(result.findings) in text
    assert ("Proportion of infected region: " in text) == (outcome == "nothing-found")


def test_the_report_of_a_refused_study_reads(tmp_path: Path, orthanc: Orthanc, browser: Browser, ohif_url: str) -> None:
    paths = ct_series(tmp_path / "ct", chest_hu(SHAPE)[0], keep=[0, 1, 2, 4, 5], PatientID="REFUSED")
    (written,) = write_refusal(paths, GAPS, THRESHOLDS, tmp_path, made_at=MADE_AT)
    store(orthanc, tmp_path)

    with opened(browser, ohif_url, dcmread(written.path).StudyInstanceUID) as viewer:
        text = viewer.read_report("Hilum report")

    assert GAPS.message in text
    assert "Volume" not in text


def test_a_follow_up_tells_the_change_and_shows_the_trend(
    tmp_path: Path, orthanc: Orthanc, browser: Browser, ohif_url: str
) -> None:
    prior = make_result(tmp_path / "prior", StudyDate="20240227", PatientID="FOLLOW-UP").path("report")
    now = make_result(tmp_path / "now", PatientID="FOLLOW-UP")
    (tmp_path / "compared").mkdir()
    objects = write_reports(now.volume, now.findings, tmp_path / "compared", made_at=MADE_AT, priors=[prior])
    for folder in ("now/ct", "compared"):
        store(orthanc, tmp_path / folder)

    with opened(browser, ohif_url, now.read("report").StudyInstanceUID) as viewer:
        text = viewer.read_report("Hilum report")
        viewer.open_image("Hilum trend", next(o.sop_instance_uid for o in objects if o.kind == "trend"))
        viewer.screenshot(SCREENSHOTS / "ohif-trend.png")

    assert "Since the prior study of 2024-02-27, 48 hours before" in text
    assert "Change of infected volume since the prior: 0 mL" in group(text, "Change since the prior study")


def test_the_key_image_looks_as_it_was_drawn(found: Result, viewer: Viewer) -> None:
    drawn = Image.open(found.folder / "key-image.png").convert("RGB")

    viewer.open_image("Hilum key image", found.read("key-image").SOPInstanceUID)
    viewer.screenshot(SCREENSHOTS / "ohif-key-image.png")

    assert np.abs(fitted(drawn, viewer.pixels()) - viewer.pixels()).mean() < 5


def fitted(picture: Image.Image, canvas: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return a picture fitted into the canvas and centred, as a viewer shows it at first."""
    height, width = canvas.shape[:2]
    around = Image.new("RGB", (width, height))
    inside = ImageOps.contain(picture, (width, height))
    around.paste(inside, ((width - inside.width) // 2, (height - inside.height) // 2))
    return np.asarray(around, np.float64)
