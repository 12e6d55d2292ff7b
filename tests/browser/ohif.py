"""OHIF in headless Chromium, driven as a radiologist would: open a study, load a series, look."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.npm import npm_package
from tests.services import missing, wait_until

VERSION = "3.13.2"
CONFIG = Path(__file__).with_name("ohif-config.js")
LUNG_WINDOW_HU = (-1350, 149)
LOADING_SECONDS = 90.0
WINDOW: ViewportSize = {"width": 1400, "height": 900}

# Without its sandbox Chromium can run as root, as in containers. SwiftShader provides WebGL where there is no GPU.
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--ignore-gpu-blocklist",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
TOUR_IS_SEEN = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"
VIEWPORT = """(() => {
    const { cornerstoneViewportService, viewportGridService } = window.services ?? {};
    return cornerstoneViewportService?.getCornerstoneViewport(viewportGridService.getActiveViewportId());
})()"""
SEGMENTATION = "label => window.services.segmentationService.getSegmentations().find(s => s.label === label)"
# Reads all rows in one call, once every segment has its row: OHIF redraws the list while it loads.
LISTED_SEGMENTS = f"""label => {{
    const rows = [...document.querySelectorAll('[data-cy="data-row"]')];
    const part = (row, name) => row.querySelector(`[data-cy="data-row-${{name}}"]`);
    return rows.length === Object.keys(({SEGMENTATION})(label).segments).length &&
        rows.map(row => [part(row, "title").innerText, getComputedStyle(part(row, "colorhex")).backgroundColor]);
}}"""


def ohif_files() -> Path:
    """Return the folder of OHIF as built by its authors."""
    return npm_package("@ohif/app", VERSION) / "dist"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the Chromium that is installed on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None) or missing("Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, study_instance_uid: str) -> Iterator[Viewer]:
    """Open a study in a new window that shares no state with others."""
    with browser.new_context(viewport=WINDOW) as context:
        context.set_default_timeout(LOADING_SECONDS * 1000)
        context.add_init_script(TOUR_IS_SEEN)
        page = context.new_page()
        page.goto(f"{url}/viewer?StudyInstanceUIDs={study_instance_uid}")
        page.locator(".cornerstone-viewport-element").first.wait_for()
        page.wait_for_function(f"{VIEWPORT}?.getImageIds?.().length > 0")
        yield Viewer(page)


@dataclass(frozen=True)
class ListedSegment:
    """A row of OHIF's list of segments, with the name and colour that a reader sees."""

    label: str
    rgb: tuple[int, ...]


@dataclass(frozen=True)
class Viewer:
    """A study that is open in OHIF."""

    page: Page

    def open_series(self, description: str) -> None:
        """Open a series by its entry in the list of the study."""
        entries = self.page.locator('[data-cy^="study-browser-thumbnail"]')
        entries.filter(has=self.page.get_by_text(description, exact=True)).dblclick()

    def open_image(self, description: str, sop_instance_uid: str) -> None:
        """Open a series of one image and wait until the image is there."""
        self.open_series(description)
        self.page.wait_for_function(f"uid => {VIEWPORT}?.getCurrentImageId?.()?.includes(uid)", arg=sop_instance_uid)

    def read_report(self, description: str) -> str:
        """Open a structured report and return its text as displayed."""
        self.open_series(description)
        self.page.get_by_text("Imaging Measurements").wait_for()
        return self.page.locator('[data-cy="viewport-pane"]').inner_text()

    def is_on_screen(self, text: str) -> bool:
        """Return whether a text is visible without scrolling."""
        box = self.page.get_by_text(text).bounding_box()
        return box is not None and box["y"] + box["height"] <= WINDOW["height"]

    def load_segmentation(self, description: str) -> list[ListedSegment]:
        """Lay a segmentation over the images and return its segments as OHIF lists them."""
        self.open_series(description)
        self.page.wait_for_function(f"label => ({SEGMENTATION})(label)", arg=description)
        self.page.locator('[data-cy="panelSegmentation-btn"]').click()
        rows = self.page.wait_for_function(LISTED_SEGMENTS, arg=description).json_value()
        return [ListedSegment(label, tuple(map(int, re.findall(r"\d+", colour)))) for label, colour in rows]

    def show_slice(self, sop_instance_uid: str, frame_number: int = 1) -> None:
        """Scroll to an image and show it in the lung window."""
        lower, upper = LUNG_WINDOW_HU
        image = f"/{sop_instance_uid}/frames/{frame_number}"
        self.page.evaluate(
            f"""async image => {{
                const viewport = {VIEWPORT};
                viewport.setProperties({{ voiRange: {{ lower: {lower}, upper: {upper} }} }});
                await viewport.setImageIdIndex(viewport.getImageIds().findIndex(id => id.endsWith(image)));
                viewport.render();
            }}""",
            image,
        )
        wait_until(lambda: self._of_viewport("getCurrentImageId()").endswith(image), "the slice")

    def pixels(self) -> NDArray[np.uint8]:
        """Return the viewport's pixels, without OHIF's text over them: (row, column, RGB)."""
        url = str(self._of_viewport("getCanvas().toDataURL()"))
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))

    def to_canvas(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert points in patient coordinates, shape (n, 3), to (x, y) in the viewport's pixels."""
        found = self.page.evaluate(f"points => points.map(p => {VIEWPORT}.worldToCanvas(p))", points_mm.tolist())
        return np.array(found, np.float64)

    def screenshot(self, path: Path) -> None:
        """Save a picture of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def _of_viewport(self, what: str) -> Any:
        return self.page.evaluate(f"{VIEWPORT}.{what}")
