from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.settings import ReportSettings
from tests.factories import AXIAL, chest_hu, ct_series, multiframe_ct, slice_positions
from tests.worker.reports.results import SHAPE, Result, make_result, report_masks
from tests.worker.reports.segments import assert_lies_on, frames_of
from worker.findings import LEFT, RIGHT
from worker.reports import labelmap, write_reports
from worker.reports.labelmap import label_maps

ORIGIN_MM = (-150.0, -140.0, -200.0)
SPACING_MM = (6.0, 3.0, 2.0)
SIGNS = [
    (a, 0.0, 0.0, 0.0, b, 0.0) if not swapped else (0.0, a, 0.0, b, 0.0, 0.0)
    for a in (1.0, -1.0)
    for b in (1.0, -1.0)
    for swapped in (False, True)
]
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


@pytest.mark.parametrize("orientation", [*SIGNS, OBLIQUE])
def test_every_voxel_lies_where_it_was_found(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    paths = ct_series(tmp_path / "ct", hu, orientation=orientation, origin_mm=ORIGIN_MM, spacing_mm=SPACING_MM, seed=5)

    result = report_masks(tmp_path, paths, labels, infection)

    positions = slice_positions(len(hu), orientation, ORIGIN_MM, SPACING_MM[0])
    lungs = result.read("lungs")
    shared = lungs.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == pytest.approx(orientation)
    assert shared.PixelMeasuresSequence[0].PixelSpacing == pytest.approx(SPACING_MM[1:])
    assert_lies_on(lungs, 1, labels == 1, positions)
    assert_lies_on(lungs, 2, labels == 2, positions)
    assert_lies_on(result.read("infection"), 1, infection, positions)


@pytest.mark.parametrize("matrix", [(256, 256), (512, 768), (1024, 1024)])
def test_lies_on_matrices_of_every_size(tmp_path: Path, matrix: tuple[int, int]) -> None:
    hu, labels, infection = chest_hu((6, *matrix))
    paths = ct_series(tmp_path / "ct", hu, origin_mm=ORIGIN_MM, spacing_mm=(6.0, 0.4, 0.3))

    result = report_masks(tmp_path, paths, labels, infection)

    positions = slice_positions(len(hu), AXIAL, ORIGIN_MM, 6.0)
    assert_lies_on(result.read("lungs"), 2, labels == RIGHT, positions)
    assert_lies_on(result.read("infection"), 1, infection, positions)


@pytest.mark.parametrize(
    ("found", "kind", "laterality"),
    [([LEFT], "left-lung", "L"), ([RIGHT], "right-lung", "R"), ([LEFT, RIGHT], "lungs", "B")],
)
def test_frames_are_of_the_side_whose_lung_they_hold(
    tmp_path: Path, found: list[int], kind: str, laterality: str
) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    labels[~np.isin(labels, found)] = 0

    result = report_masks(tmp_path, ct_series(tmp_path / "ct", hu), labels, infection & (labels > 0))

    (anatomy,) = result.read(kind).SharedFunctionalGroupsSequence[0].FrameAnatomySequence
    assert anatomy.FrameLaterality == laterality


def test_lies_on_the_slices_of_a_tilted_gantry(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    paths = ct_series(tmp_path / "ct", hu, origin_mm=ORIGIN_MM, spacing_mm=SPACING_MM, tilt_degrees=15)

    result = report_masks(tmp_path, paths, labels, infection)

    positions = slice_positions(len(hu), AXIAL, ORIGIN_MM, SPACING_MM[0], 15)
    assert_lies_on(result.read("infection"), 1, infection, positions)


@pytest.mark.parametrize("legacy_converted", [False, True])
def test_lies_on_the_frames_of_a_multi_frame_source(tmp_path: Path, *, legacy_converted: bool) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    paths = multiframe_ct(
        tmp_path / "ct",
        hu,
        origin_mm=ORIGIN_MM,
        spacing_mm=SPACING_MM,
        seed=7,
        legacy_converted=legacy_converted,
    )

    result = report_masks(tmp_path, paths, labels, infection)

    positions = slice_positions(len(hu), AXIAL, ORIGIN_MM, SPACING_MM[0])
    assert_lies_on(result.read("infection"), 1, infection, positions)


def test_each_frame_names_the_frame_of_its_multi_frame_source(tmp_path: Path) -> None:
    result = make_result(tmp_path, multiframe=True, seed=7)
    source = dcmread(result.volume.slices[0].path)
    segmentation = result.read("infection")

    for group in segmentation.PerFrameFunctionalGroupsSequence:
        number = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        there = source.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
        assert group.PlanePositionSequence[0].ImagePositionPatient == there.ImagePositionPatient


def test_each_frame_names_the_image_it_lies_on(tmp_path: Path) -> None:
    result = make_result(tmp_path, seed=3)
    positions = {s.sop_instance_uid: dcmread(s.path).ImagePositionPatient for s in result.volume.slices}

    for position, _, source in frames_of(result.read("infection"), 1):
        assert positions[source] == pytest.approx(position)


@pytest.mark.parametrize("orientation", SIGNS[::2])
def test_highdicom_reads_the_same_volume_back(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    paths = ct_series(tmp_path / "ct", hu, orientation=orientation, spacing_mm=SPACING_MM, seed=1)
    result = report_masks(tmp_path, paths, labels, infection)

    volume = hd.seg.segread(result.path("infection")).get_volume(combine_segments=True)

    found = np.argwhere(volume.array)
    truth = result.volume.geometry.to_patient(np.argwhere(infection))
    there = volume.map_indices_to_reference(found)
    np.testing.assert_allclose(sorted(map(tuple, there.round(2))), sorted(map(tuple, truth.round(2))), atol=0.01)


def test_holds_one_object_a_series_each_for_lungs_and_infection(tmp_path: Path) -> None:
    result = make_result(tmp_path)

    segmentations = [item for item in result.objects if item.sop_class_uid == "1.2.840.10008.5.1.4.1.1.66.4"]

    assert [item.kind for item in segmentations] == ["lungs", "infection"]
    assert len({item.series_instance_uid for item in result.objects}) == len(result.objects)


def test_names_and_colours_its_segments(tmp_path: Path) -> None:
    result = make_result(tmp_path)

    left, right = result.read("lungs").SegmentSequence
    (infection,) = result.read("infection").SegmentSequence

    assert [s.SegmentLabel for s in (left, right, infection)] == ["Left lung", "Right lung", "Infection"]
    assert left.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    modifier = left.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Left"
    assert infection.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    red = hd.color.CIELabColor.from_rgb(230, 60, 60).value
    assert tuple(infection.RecommendedDisplayCIELabValue) == red


def test_makes_no_infection_segmentation_where_nothing_was_found(tmp_path: Path) -> None:
    result = make_result(tmp_path, infected=False)

    assert [item.kind for item in result.objects] == ["lungs", "report", "key-image"]


def test_gives_each_lung_an_object_where_one_would_have_too_many_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelmap, "MAX_FRAMES", 12)
    hu, labels, infection = chest_hu(SHAPE)
    paths = ct_series(tmp_path / "ct", hu)

    result = report_masks(tmp_path, paths, labels, infection)

    positions = slice_positions(len(hu), AXIAL, ORIGIN_MM, 6.0)
    assert_lies_on(result.read("left-lung"), 1, labels == 1, positions)
    assert_lies_on(result.read("right-lung"), 1, labels == 2, positions)


@pytest.fixture(scope="module", params=["BINARY", "LABELMAP"])
def parted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A result whose structures are on more slices than one object may have frames."""
    folder = tmp_path_factory.mktemp("parted")
    result = make_result(folder)
    (folder / "parts").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelmap, "MAX_FRAMES", 1)
        settings = ReportSettings(segmentation=request.param)
        objects = write_reports(result.volume, result.findings, folder / "parts", settings)
    return replace(result, objects=objects)


def test_no_object_has_more_frames_than_viewers_show(parted: Result) -> None:
    for item in parted.objects:
        assert dcmread(item.path, stop_before_pixels=True).get("NumberOfFrames", 1) == 1


@pytest.mark.parametrize("kind", ["left-lung", "right-lung", "infection"])
def test_the_parts_of_a_structure_hold_all_of_it(parted: Result, kind: str) -> None:
    findings = parted.findings
    mask = {
        "left-lung": findings.lungs.labels == LEFT,
        "right-lung": findings.lungs.labels == RIGHT,
        "infection": findings.infection.array,
    }[kind]
    parts = [dcmread(item.path) for item in parted.objects if item.kind.startswith(kind)]
    positions = np.array([slice_.position_mm for slice_ in parted.volume.slices])
    found = np.zeros_like(mask)
    for part in parts:
        images = part.pixel_array.reshape(-1, part.Rows, part.Columns)
        for group, image in zip(part.PerFrameFunctionalGroupsSequence, images, strict=True):
            position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            found[np.argmin(np.linalg.norm(positions - position, axis=1))] = image

    assert np.array_equal(found, mask)
    names = [part.SeriesDescription for part in parts]
    assert names == [f"Hilum {kind.replace('-', ' ')}, {n} of {len(parts)}" for n in range(1, len(parts) + 1)]


def test_the_report_follows_a_structure_in_parts_by_its_tracking_uid(parted: Result) -> None:
    report = parted.read("report")
    parts = [dcmread(item.path) for item in parted.objects if item.kind.startswith("infection-")]
    (tracking_uid,) = {part.SegmentSequence[0].TrackingUID for part in parts}
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }

    assert tracking_uid in str(report)
    assert {part.SOPInstanceUID for part in parts} <= evidence
    assert "Referenced Segment" not in str(report)


def test_leaves_out_a_lung_that_is_not_there(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    labels[labels == 1] = 0

    result = report_masks(tmp_path, ct_series(tmp_path / "ct", hu), labels, infection)

    assert [m.kind.name for m in label_maps(result.findings)] == ["right-lung", "infection"]
    assert "left-lung" not in [item.kind for item in result.objects]


def test_frames_need_not_fill_whole_bytes(tmp_path: Path) -> None:
    hu, labels, infection = chest_hu((6, 33, 35))
    result = report_masks(tmp_path, ct_series(tmp_path / "ct", hu), labels, infection)

    assert_lies_on(result.read("infection"), 1, infection, slice_positions(6, AXIAL, ORIGIN_MM, 6.0))


def test_names_the_algorithm_that_made_each_segment(tmp_path: Path) -> None:
    result = make_result(tmp_path)

    for segment in result.read("lungs").SegmentSequence:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Thresholds", "1.0")


def test_lies_on_slices_that_say_little_of_themselves(tmp_path: Path) -> None:
    lacking = ("SliceThickness", "PositionReferenceIndicator", "SeriesNumber", "Manufacturer", "InstanceNumber")

    result = make_result(tmp_path, **dict.fromkeys(lacking))

    positions = slice_positions(len(result.volume.hu), AXIAL, ORIGIN_MM, 6.0)
    assert_lies_on(result.read("infection"), 1, result.findings.infection.array, positions)


def test_its_own_voxels_fill_the_spacing_where_the_source_names_no_thickness(tmp_path: Path) -> None:
    named, unnamed = (make_result(tmp_path / str(i), SliceThickness=i) for i in ("2.5", None))

    for result, thickness_mm in ((named, 2.5), (unnamed, 6)):
        measures = result.read("infection").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (thickness_mm, 6)


@pytest.fixture(scope="module", params=["single-frame", "multi-frame"])
def label_mapped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same findings, written as LABELMAP."""
    folder = tmp_path_factory.mktemp("label-map")
    result = make_result(folder, multiframe=request.param == "multi-frame")
    (folder / "label-map").mkdir()
    settings = ReportSettings(segmentation="LABELMAP")
    return replace(result, objects=write_reports(result.volume, result.findings, folder / "label-map", settings))


def test_a_label_map_holds_the_same_masks(label_mapped: Result) -> None:
    findings = label_mapped.findings
    for kind, number, mask in (
        ("lungs", 1, findings.lungs.labels == LEFT),
        ("lungs", 2, findings.lungs.labels == RIGHT),
        ("infection", 1, findings.infection.array),
    ):
        segmentation = hd.seg.segread(label_mapped.path(kind))
        assert segmentation.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
        found = segmentation.get_volume(segment_numbers=[number])
        indices = np.argwhere(found.array[..., 0])
        there = indices @ found.affine[:3, :3].T + found.affine[:3, 3]
        truth = label_mapped.volume.geometry.to_patient(np.argwhere(mask))
        order, expected = (np.lexsort(np.round(points, 3).T) for points in (there, truth))
        np.testing.assert_allclose(there[order], truth[expected], atol=1e-3)


def test_a_label_maps_background_stands_behind_its_segments(label_mapped: Result) -> None:
    segments = label_mapped.read("lungs").SegmentSequence

    assert [segment.SegmentLabel for segment in segments] == ["Left lung", "Right lung", "Background"]
