"""dcmjs, the JavaScript library that OHIF and others use, reads the same masks and figures from Hilum's objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.npm import node, npm_package
from tests.worker.reports.content import SITE_GROUPS
from tests.worker.reports.results import Result, make_result
from worker.findings import LEFT, RIGHT
from worker.reports.codes import INFECTION, LEFT_LUNG, RIGHT_LUNG, Structure

pytestmark = pytest.mark.peer

READER = Path(__file__).with_name("read_with_dcmjs.mjs")


@pytest.fixture(scope="module")
def dcmjs() -> Path:
    return npm_package("dcmjs", "0.52.2")


@pytest.fixture(scope="module", params=["single-frame", "multi-frame"])
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    is_multi_frame = request.param == "multi-frame"
    return make_result(tmp_path_factory.mktemp(request.param), multiframe=is_multi_frame)


def read(dcmjs: Path, path: Path) -> Any:
    return json.loads(node(READER, dcmjs, path))


def mask_of(result: Result, segmentation: Any, number: int) -> NDArray[np.bool_]:
    """Return a segment's mask as (slice, row, column); each frame is put on the slice that it refers to."""
    mask = np.zeros(result.volume.geometry.shape, bool)
    slices = {(s.sop_instance_uid, s.frame_number): index for index, s in enumerate(result.volume.slices)}
    for frame in segmentation["frames"]:
        if frame["segment"] == number:
            mask[slices[tuple(frame["image"])]].flat[frame["inside"]] = True
    return mask


def test_reads_each_segment_on_its_voxels(dcmjs: Path, result: Result) -> None:
    lungs, infection = (read(dcmjs, result.path(kind)) for kind in ("lungs", "infection"))

    assert np.array_equal(mask_of(result, lungs, 1), result.findings.lungs.labels == LEFT)
    assert np.array_equal(mask_of(result, lungs, 2), result.findings.lungs.labels == RIGHT)
    assert np.array_equal(mask_of(result, infection, 1), result.findings.infection.array)


@pytest.mark.parametrize(("kind", "structures"), [("lungs", (LEFT_LUNG, RIGHT_LUNG)), ("infection", (INFECTION,))])
def test_reads_each_segments_name_and_colour(
    dcmjs: Path, result: Result, kind: str, structures: tuple[Structure, ...]
) -> None:
    segments = read(dcmjs, result.path(kind))["segments"]

    for segment, structure in zip(segments, structures, strict=True):
        assert (segment["label"], segment["type"]) == (structure.label, structure.type.meaning)
        # dcmjs interprets CIELab as relative to D50 (PS3.3 C.10.7.1.1), highdicom and OHIF as relative to D65.
        assert segment["rgb"] == pytest.approx(structure.rgb, abs=5)


def test_reads_the_reports_figures(dcmjs: Path, result: Result) -> None:
    groups = {group["name"]: group["figures"] for group in read(dcmjs, result.path("report"))["groups"]}

    for truth in result.findings.measurements:
        lung, infection = SITE_GROUPS[truth.site]
        assert groups[lung]["Volume"] == [pytest.approx(truth.lung_volume_ml, abs=0.01), "mL"]
        assert groups[lung]["Attenuation Coefficient"] == [pytest.approx(truth.lung_mean_hu, abs=0.1), "[hnsf'U]"]
        assert groups[infection]["Volume"] == [pytest.approx(truth.infection_volume_ml, abs=0.01), "mL"]
        assert groups[infection]["Proportion of infected region"] == [
            pytest.approx(truth.infected_percent, abs=0.01),
            "%",
        ]


def test_segments_and_measurement_groups_share_tracking_uids(dcmjs: Path, result: Result) -> None:
    groups = {group["name"]: group["tracking_uid"] for group in read(dcmjs, result.path("report"))["groups"]}
    segments = [s for kind in ("lungs", "infection") for s in read(dcmjs, result.path(kind))["segments"]]

    for segment, structure in zip(segments, (LEFT_LUNG, RIGHT_LUNG, INFECTION), strict=True):
        assert segment["tracking_uid"] == groups[structure.tracking_id]
