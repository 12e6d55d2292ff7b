"""OHIF shows each segmentation with its names and colours on its own voxels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser

from dicom_node.settings import ReportSettings, WorkerSettings
from tests.browser.conftest import SCREENSHOTS, store
from tests.browser.ohif import ListedSegment, Viewer, opened
from tests.browser.overlay import Overlay, overlay
from tests.factories import chest_hu, ct_series
from tests.services import Orthanc
from tests.worker.reports.results import Result, make_result, report_masks
from worker.findings import LEFT, RIGHT
from worker.method import choose_method
from worker.phantom.series import write_phantom
from worker.pipeline import analyze
from worker.reports import write_reports
from worker.reports.codes import INFECTION, LEFT_LUNG, RIGHT_LUNG, Structure

pytestmark = [pytest.mark.browser, pytest.mark.peer]

DRAWING_SECONDS = 20.0


@dataclass(frozen=True)
class Shown:
    """A study in the viewer with one of its segmentations laid over it, and the masks it must show."""

    viewer: Viewer
    result: Result
    listed: list[ListedSegment]
    masks: dict[Structure, NDArray[np.bool_]]
    name: str

    def overlay_of(self, structure: Structure, index: int) -> Overlay:
        """Scroll to a slice; return where the structure's colour is drawn, once that equals its mask or time is up."""
        image = self.result.volume.slices[index]
        self.viewer.show_slice(image.sop_instance_uid, image.frame_number or 1)
        deadline = time.monotonic() + DRAWING_SECONDS
        while True:
            drawn = overlay(self.viewer, self.result.volume.geometry, index, structure.rgb)
            if np.array_equal(drawn.voxels, self.masks[structure][index]) or time.monotonic() > deadline:
                return drawn
            time.sleep(0.2)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Result:
    folder = tmp_path_factory.mktemp("phantom")
    truth = write_phantom(folder / "ct", slices=30)
    result = report_masks(folder, truth.paths, truth.lungs.labels, truth.infection.array)
    store(orthanc, folder)
    return result


@pytest.fixture(scope="module")
def tilted(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Result:
    """A series with gantry tilt, pixels that are not square, and files in random order."""
    folder = tmp_path_factory.mktemp("tilted")
    hu, labels, infection = chest_hu((24, 128, 96))
    paths = ct_series(folder / "ct", hu, spacing_mm=(7.0, 2.0, 4.0), tilt_degrees=15.0, seed=3, PatientID="TILTED")
    result = report_masks(folder, paths, labels, infection)
    store(orthanc, folder)
    return result


@pytest.fixture(scope="module")
def multi_frame(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Result:
    folder = tmp_path_factory.mktemp("multi-frame")
    result = make_result(folder, multiframe=True, PatientID="MULTI-FRAME")
    store(orthanc, folder)
    return result


@pytest.fixture(scope="module")
def label_mapped(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Result:
    """Segmentations written as label maps."""
    folder = tmp_path_factory.mktemp("label-mapped")
    result = make_result(folder, PatientID="LABEL-MAPPED")
    (folder / "label-maps").mkdir()
    objects = write_reports(
        result.volume, result.findings, folder / "label-maps", ReportSettings(segmentation="LABELMAP")
    )
    for part in ("ct", "label-maps"):
        store(orthanc, folder / part)
    return replace(result, objects=objects)


@pytest.fixture(scope="module")
def pneumonia(shared_data: Path, tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Result:
    """A real study of community-acquired pneumonia, as Hilum answers it by default."""
    folder, ct = tmp_path_factory.mktemp("pneumonia"), shared_data / "ct-studies" / "cap-001"
    volume, findings = analyze(sorted(ct.rglob("*.dcm")), choose_method(WorkerSettings()))
    result = Result(volume, findings, folder, write_reports(volume, findings, folder))
    store(orthanc, ct)
    store(orthanc, folder)
    return result


@pytest.fixture(
    scope="module",
    params=[
        ("phantom", "lungs"),
        ("phantom", "infection"),
        ("tilted", "lungs"),
        ("tilted", "infection"),
        ("multi_frame", "lungs"),
        ("label_mapped", "lungs"),
        ("label_mapped", "infection"),
        pytest.param(("pneumonia", "infection"), marks=pytest.mark.data),
    ],
    ids="-".join,
)
def shown(request: pytest.FixtureRequest, browser: Browser, ohif_url: str) -> Iterator[Shown]:
    study, kind = request.param
    result: Result = request.getfixturevalue(study)
    labels, infection = result.findings.lungs.labels, result.findings.infection.array
    lungs = {LEFT_LUNG: labels == LEFT, RIGHT_LUNG: labels == RIGHT}
    masks = lungs if kind == "lungs" else {INFECTION: infection}
    segmentation = result.read(kind)
    with opened(browser, ohif_url, segmentation.StudyInstanceUID) as viewer:
        listed = viewer.load_segmentation(segmentation.SeriesDescription)
        yield Shown(viewer, result, listed, masks, f"{study}-{kind}")


def test_lists_each_segment_with_its_name_and_colour(shown: Shown) -> None:
    listed = [segment for segment in shown.listed if segment.label != "Background"]  # a label map lists it too
    assert listed == [ListedSegment(structure.label, structure.rgb) for structure in shown.masks]


def test_colours_each_structures_voxels_on_its_own_slices(shown: Shown) -> None:
    for structure, mask in shown.masks.items():
        inside = np.flatnonzero(mask.any((1, 2)))
        largest = int(np.argmax(mask.sum((1, 2))))
        for index in (max(inside[0] - 1, 0), inside[0], inside[-1], largest):
            drawn = shown.overlay_of(structure, index)
            assert np.array_equal(drawn.voxels, mask[index]), f"{structure.name}, slice {index}"


def test_the_coloured_area_is_the_masks_area(shown: Shown) -> None:
    for structure, mask in shown.masks.items():
        areas_mm2 = mask.sum((1, 2)) * shown.result.volume.geometry.pixel_area_mm2
        largest = int(np.argmax(areas_mm2))

        drawn = shown.overlay_of(structure, largest)

        assert drawn.area_mm2 == pytest.approx(areas_mm2[largest], rel=0.02)
    shown.viewer.screenshot(SCREENSHOTS / f"ohif-{shown.name}.png")
