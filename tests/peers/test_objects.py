"""Independent readers and validators on the objects of every outcome."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from dicom_node.errors import NotAnalysable
from dicom_node.settings import ReportSettings, WorkerSettings
from tests.conformance.validation import DCIODVFY, PIXELMED, PIXELMED_SR, errors, unexplained
from tests.conformance.validators import ask, run
from tests.factories import chest_hu, ct_series
from tests.worker.reports.content import SITE_GROUPS
from tests.worker.reports.results import (
    CUT_OFF,
    MADE_AT,
    NETWORK,
    SHAPE,
    THRESHOLDS,
    TILTED,
    Result,
    make_result,
    report_masks,
)
from tests.worker.reports.segments import assert_lies_on
from worker.method import choose_method
from worker.pipeline import analyze
from worker.reports import WrittenObject, write_refusal, write_reports
from worker.reports.history import measured_now
from worker.reports.source import read_source

pytestmark = pytest.mark.peer


def assert_valid(tool: str, item: WrittenObject) -> None:
    """Assert that a tool knows the object, and reports no error and no unexplained warning."""
    said = ask(tool, item.path)
    assert said is not None
    assert not errors(tool, said), item.kind
    assert not unexplained(tool, said), item.kind


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[WrittenObject, ...]]:
    """The objects of every outcome."""
    folder = tmp_path_factory.mktemp("outcomes")
    paths = ct_series(folder / "ct", chest_hu(SHAPE)[0], keep=[0, 1, 3])
    reason = NotAnalysable("missing-slices", "expected a slice every 6 mm, got gaps; send the series again")
    for name in ("refused", "revised", "compared", "measured-prior"):
        (folder / name).mkdir()
    first = make_result(folder / "first")
    withdrawn = [item.path for item in first.objects]
    with_note = ReportSettings(rejection_note=True, page=True)
    before = make_result(folder / "prior", StudyDate="20240227")
    images = read_source([slice_.path for slice_ in before.volume.slices])
    measured = measured_now(before.volume, before.findings, images)
    write = partial(write_reports, first.volume, first.findings, made_at=MADE_AT)
    return {
        "compared": write(folder / "compared", priors=[before.path("report")]),
        "measured-prior": write(folder / "measured-prior", others=[measured]),
        "revised": write_reports(
            first.volume, first.findings, folder / "revised", with_note, MADE_AT, earlier=withdrawn
        ),
        "found": make_result(folder / "found", flags=(TILTED,), algorithm=NETWORK).objects,
        "nothing": make_result(folder / "nothing", infected=False).objects,
        "withheld": make_result(folder / "withheld", flags=(CUT_OFF,)).objects,
        "multi-frame": make_result(folder / "multi-frame", multiframe=True).objects,
        "names": make_result(folder / "names", PatientName="Yamada^Tarou=山田^太郎").objects,
        "anonymous": make_result(
            folder / "anonymous", PatientID=None, PatientSex=None, StudyDate=None, BodyPartExamined=None
        ).objects,
        "bare": make_result(folder / "bare", SliceThickness=None, FrameOfReferenceUID=None).objects,
        "refused": write_refusal(paths, reason, THRESHOLDS, folder / "refused"),
    }


OUTCOMES = [
    "compared",
    "measured-prior",
    "revised",
    "found",
    "nothing",
    "withheld",
    "multi-frame",
    "names",
    "anonymous",
    "bare",
    "refused",
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_dciodvfy_finds_no_error_and_no_warning_that_is_not_explained(
    outcomes: dict[str, tuple[WrittenObject, ...]], outcome: str
) -> None:
    for item in outcomes[outcome]:
        assert_valid(DCIODVFY, item)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("compared", "report"),
        ("revised", "report"),
        ("revised", "rejection-note"),
        ("found", "lungs"),
        ("found", "infection"),
        ("multi-frame", "infection"),
        ("bare", "infection"),
        ("anonymous", "lungs"),
        ("found", "report"),
        ("nothing", "report"),
        ("withheld", "report"),
        ("refused", "report"),
    ],
)
def test_pixelmed_finds_no_error_and_no_warning_that_is_not_explained(
    outcomes: dict[str, tuple[WrittenObject, ...]], outcome: str, kind: str
) -> None:
    validator = PIXELMED_SR if kind in ("report", "rejection-note") else PIXELMED
    (item,) = (item for item in outcomes[outcome] if item.kind == kind)

    assert_valid(validator, item)


def test_the_report_follows_its_template_as_pixelmed_reads_it(tmp_path: Path) -> None:
    # PixelMed validates the content of a report only if its title is in CID 7021.
    result = make_result(tmp_path)
    (tmp_path / "titled").mkdir()
    settings = ReportSettings(title="DCM 126000")
    *_, titled, _ = write_reports(result.volume, result.findings, tmp_path / "titled", settings)

    said = ask(PIXELMED_SR, titled.path) or []

    assert "Found Root Template TID_1500 (MeasurementReport)" in said
    assert not errors(PIXELMED_SR, said)
    assert not unexplained(PIXELMED_SR, said)


def read_by_dcmqi(path: Path, out: Path) -> dict[str, sitk.Image]:
    """Return each segment's mask as dcmqi reads it, by the segment's label."""
    out.mkdir()
    run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", out, "--outputType", "nrrd")
    groups = json.loads((out / "meta.json").read_text())["segmentAttributes"]
    return {group[0]["SegmentLabel"]: sitk.ReadImage(out / f"{n}.nrrd") for n, group in enumerate(groups, 1)}


def assert_same_voxels(image: sitk.Image, result: Result, mask: np.ndarray) -> None:
    """Assert that image and mask have the same voxels, compared in patient coordinates."""
    there = result.volume.geometry.to_patient(np.argwhere(mask))
    assert np.count_nonzero(sitk.GetArrayViewFromImage(image)) == len(there)
    assert all(image[image.TransformPhysicalPointToIndex(point.tolist())] for point in there)


@pytest.mark.parametrize("row", [1.0, -1.0])
@pytest.mark.parametrize("column", [1.0, -1.0])
def test_dcmqi_reads_the_same_masks(tmp_path: Path, row: float, column: float) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    orientation = (row, 0.0, 0.0, 0.0, column, 0.0)
    paths = ct_series(tmp_path / "ct", hu, orientation=orientation, spacing_mm=(6.0, 3.0, 2.0), seed=4)
    result = report_masks(tmp_path, paths, labels, infection)

    lungs = read_by_dcmqi(result.path("lungs"), tmp_path / "lungs")
    lesion = read_by_dcmqi(result.path("infection"), tmp_path / "infection")

    assert_same_voxels(lungs["Left lung"], result, labels == 1)
    assert_same_voxels(lungs["Right lung"], result, labels == 2)
    assert_same_voxels(lesion["Infection"], result, infection)


def test_dcmqi_reads_the_same_figures(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    metadata = tmp_path / "report.json"

    run("tid1500reader", "--inputDICOM", result.path("report"), "--outputMetadata", metadata)

    groups = {group["TrackingIdentifier"]: group for group in json.loads(metadata.read_text())["Measurements"]}
    for truth in result.findings.measurements:
        lung, infection = (figures_read_by_dcmqi(groups[name]) for name in SITE_GROUPS[truth.site])
        assert lung["Volume"] == (pytest.approx(truth.lung_volume_ml, abs=0.01), "mL")
        assert lung["Attenuation Coefficient"] == (pytest.approx(truth.lung_mean_hu, abs=0.1), "[hnsf'U]")
        assert infection["Volume"] == (pytest.approx(truth.infection_volume_ml, abs=0.01), "mL")
        assert infection["Proportion of infected region"] == (pytest.approx(truth.infected_percent, abs=0.01), "%")
        if truth.infection_mean_hu is not None:
            assert infection["Attenuation Coefficient"] == (pytest.approx(truth.infection_mean_hu, abs=0.1), "[hnsf'U]")
    segmentation = result.read("infection")
    assert groups["Infection, both lungs"]["segmentationSOPInstanceUID"] == segmentation.SOPInstanceUID
    assert groups["Infection, both lungs"]["ReferencedSegment"] == 1


def figures_read_by_dcmqi(group: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Return value and unit of each measurement of a group, by its name."""
    return {
        item["quantity"]["CodeMeaning"]: (float(item["value"]), item["units"]["CodeValue"])
        for item in group["measurementItems"]
    }


def test_dcmtk_reads_every_report(outcomes: dict[str, tuple[WrittenObject, ...]]) -> None:
    for objects in outcomes.values():
        (path,) = (item.path for item in objects if item.kind == "report")
        said = run("dsrdump", path)
        assert "Conclusion" in said
        assert "error" not in said.lower()


@pytest.mark.data
@pytest.mark.parametrize("study", ["covid-p001", "cap-001", "normal-001", "petct-a0002-b40f"])
def test_objects_of_real_studies_are_valid_and_lie_on_their_slices(
    shared_data: Path, tmp_path: Path, study: str
) -> None:
    volume, findings = analyze(sorted((shared_data / "ct-studies" / study).rglob("*.dcm")))

    objects = write_reports(volume, findings, tmp_path)

    for item in objects:
        assert_valid(DCIODVFY, item)
    positions = np.array([dcmread(s.path, stop_before_pixels=True).ImagePositionPatient for s in volume.slices])
    segmentations = {item.kind: dcmread(item.path) for item in objects if item.kind in ("lungs", "infection")}
    assert_lies_on(segmentations["lungs"], 1, findings.lungs.side("left").array, positions)
    assert_lies_on(segmentations["lungs"], 2, findings.lungs.side("right").array, positions)
    assert_lies_on(segmentations["infection"], 1, findings.infection.array, positions)


@pytest.mark.data
def test_pixelmed_finds_each_kind_of_object_of_a_real_study_valid(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "ct-studies" / "petct-a0002-b40f").rglob("*.dcm"))
    volume, findings = analyze(paths, choose_method(WorkerSettings()))
    first, revised = (tmp_path / name for name in ("first", "revised"))
    for folder in (first, revised):
        folder.mkdir()
    withdrawn = [item.path for item in write_reports(volume, findings, first)]
    note = ReportSettings(rejection_note=True)

    objects = {item.kind: item for item in write_reports(volume, findings, revised, note, earlier=withdrawn)}

    for kind, tool in (
        ("lungs", PIXELMED),
        ("infection", PIXELMED),
        ("report", PIXELMED_SR),
        ("rejection-note", PIXELMED_SR),
    ):
        assert_valid(tool, objects[kind])
