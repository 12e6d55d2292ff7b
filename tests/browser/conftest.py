"""Fixtures: a PACS with a study and its results, and a viewer on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser

from tests.browser.ohif import CONFIG, chromium, ohif_files
from tests.browser.serving import served
from tests.services import Orthanc, missing

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests; each test opens its own window."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def ohif_url(orthanc: Orthanc) -> Iterator[str]:
    """URL of an OHIF that shows the studies in the tests' PACS."""
    if "dicom-web" not in orthanc.ask("/plugins"):
        missing("Orthanc's DICOMweb plugin")
    with served(ohif_files(), CONFIG, orthanc.http_port) as url:
        yield url


def store(orthanc: Orthanc, folder: Path) -> None:
    """Put every DICOM file under a folder into the PACS."""
    for path in sorted(folder.rglob("*.dcm")):
        url = f"http://127.0.0.1:{orthanc.http_port}/instances"
        with urlopen(Request(url, path.read_bytes(), method="POST"), timeout=60) as answer:
            assert answer.status == 200
