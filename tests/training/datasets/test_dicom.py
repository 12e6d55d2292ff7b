import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import RTStructureSetStorage, SurfaceSegmentationStorage, generate_uid

from tests.factories import chest_hu, ct_series, multiframe_ct
from tests.training.datasets.segmentations import LUNG, make_hilums, segment, write_seg
from training import datasets
from training.datasets.sample import BadData


@pytest.fixture
def chest() -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.bool_]]:
    return chest_hu((8, 24, 32))


Chest = tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.bool_]]


def draw_infection(folder: Path, chest: Chest, write_ct: Callable[..., list[Path]] = ct_series) -> Path:
    """Write a patient's series with a SEG of its infection; return the path of the SEG."""
    hu, _, infection = chest
    images = write_ct(folder / "ct", hu)
    write_seg(folder / "seg.dcm", images, infection[..., None].astype(np.uint8), [segment(1, "infection")])
    return folder / "seg.dcm"


def test_segments_become_masks_on_the_slices_they_were_drawn_on(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu, seed=3, WindowCenter=-500, WindowWidth=1501)
    order = [round((dcmread(p).ImagePositionPatient[2] + 200) / 6) for p in images]
    masks = np.stack([lungs > 0, infection], axis=-1)[order].astype(np.uint8)
    write_seg(tmp_path / "anna" / "seg.dcm", images, masks, [segment(1, "Lung"), segment(2, "infection")])
    (sample,) = datasets.read("dicom", tmp_path)
    assert sample.patient == "anna"
    assert np.array_equal(sample.image, hu)
    assert np.array_equal(sample.mask("lung"), lungs > 0)
    assert np.array_equal(sample.mask("infection"), infection)
    assert sample.spacing_mm == pytest.approx((6.0, 3.0, 3.0))
    assert sample.window_hu == (-1250.5, 249.5)


def test_voxels_of_a_tilted_gantry_have_their_true_volume(tmp_path: Path, chest: Chest) -> None:
    images = ct_series(tmp_path / "anna" / "ct", chest[0], tilt_degrees=20)
    masks = (chest[1] > 0)[..., None].astype(np.uint8)
    write_seg(tmp_path / "anna" / "seg.dcm", images, masks, [segment(1, "Lung")])
    (sample,) = datasets.read("dicom", tmp_path)
    assert sample.voxel_ml == pytest.approx(6 * 3 * 3 / 1000)


def test_masks_of_feet_last_coronal_images_turn_with_them(tmp_path: Path, chest: Chest) -> None:
    hu, _, infection = chest
    # Row indices increase towards the feet, and slice indices towards the back.
    coronal = np.ascontiguousarray(hu.transpose(1, 0, 2)[:, ::-1])
    drawn = np.ascontiguousarray(infection.transpose(1, 0, 2)[:, ::-1])
    images = ct_series(tmp_path / "anna" / "ct", coronal, orientation=(1, 0, 0, 0, 0, -1), spacing_mm=(3.0, 6.0, 3.0))
    write_seg(tmp_path / "anna" / "seg.dcm", images, drawn[..., None].astype(np.uint8), [segment(1, "infection")])
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.image, hu)
    assert np.array_equal(sample.mask("infection"), infection)


def test_multi_frame_series_have_masks_too(tmp_path: Path, chest: Chest) -> None:
    draw_infection(tmp_path / "anna", chest, multiframe_ct)
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("infection"), chest[2])


def test_a_series_of_several_multi_frame_objects_is_refused(tmp_path: Path, chest: Chest) -> None:
    hu, _, infection = chest
    uids = {name: generate_uid() for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
    images = multiframe_ct(tmp_path / "anna" / "1", hu, **uids)
    multiframe_ct(tmp_path / "anna" / "2", hu, origin_mm=(-150, -140, -200 + 6 * len(hu)), **uids)
    write_seg(tmp_path / "anna" / "seg.dcm", images, infection[..., None].astype(np.uint8), [segment(1, "infection")])
    with pytest.raises(BadData, match=r"seg.dcm: its series is 2 multi-frame objects"):
        list(datasets.read("dicom", tmp_path))


def test_several_segmentations_of_one_series_come_together(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    for name, mask, description in (
        ("a", lungs > 0, segment(1, "whatever", LUNG)),
        ("b", infection, segment(1, "Ground Glass Opacity")),
        ("c", infection, segment(1, "consolidation")),
    ):
        write_seg(tmp_path / "anna" / f"{name}.dcm", images, mask[..., None].astype(np.uint8), [description])
    (sample,) = datasets.read("dicom", tmp_path)
    assert sorted(sample.masks) == ["consolidation", "ground_glass_opacity", "lung"]
    assert np.array_equal(sample.mask("infection"), infection)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (("120000", "+0000"), ("100000", "-0500")),
        (("120000", "+0800"), ("050000", "")),  # OHIF stamps UTC without saying so
        (("120000", ""), ("120000.5", "")),
    ],
)
def test_the_newest_segmentation_is_told_by_its_time_zone(
    tmp_path: Path, chest: Chest, older: tuple[str, str], newer: tuple[str, str]
) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    for name, mask, (time, zone) in (("b", lungs > 0, older), ("a", infection, newer)):
        path = tmp_path / "anna" / f"{name}.dcm"
        write_seg(path, images, mask[..., None].astype(np.uint8), [segment(1, "infection")])
        ds = dcmread(path)
        ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC = "20260101", time, zone
        ds.save_as(path)
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("infection"), infection)


def test_a_part_of_infection_alone_is_not_taken_for_the_whole(tmp_path: Path, chest: Chest) -> None:
    hu, _, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    write_seg(tmp_path / "anna" / "a.dcm", images, infection[..., None].astype(np.uint8), [segment(1, "Consolidation")])
    (sample,) = datasets.read("dicom", tmp_path)
    advice = "draw ground_glass_opacity too, or name the segment infection where it holds all of it"
    with pytest.raises(BadData, match=f"no mask of infection; .* consolidation is only a part of it: {advice}"):
        sample.mask("infection")


def write_drawn(folder: Path, images: Sequence[Path], *drawn: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write SEGs of masks by structure, each newer than the one before it."""
    for number, masks in enumerate(drawn):
        path = folder / f"{number}.dcm"
        segments = [segment(n, name) for n, name in enumerate(masks, start=1)]
        write_seg(path, images, np.stack(list(masks.values()), axis=-1).astype(np.uint8), segments)
        ds = dcmread(path)
        ds.ContentDate, ds.ContentTime = "20260101", f"{number:02d}0000"
        ds.save_as(path)


def test_a_part_drawn_after_the_whole_does_not_bring_older_parts_back(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, _ = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    first = {"left_lung": lungs == 1, "right_lung": lungs == 3}
    write_drawn(tmp_path / "anna", images, first, {"lung": lungs > 0}, {"left_lung": lungs == 1})
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("lung"), lungs > 0)
    assert sample.masks.keys() == {"lung", "left_lung"}


def test_a_part_as_old_as_the_whole_does_not_replace_it(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, _ = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    first = {"lung": lungs > 0, "left_lung": lungs == 1, "right_lung": lungs == 3}
    write_drawn(tmp_path / "anna", images, first, {"left_lung": lungs == 1})
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("lung"), lungs > 0)


def test_a_fractional_segmentation_outlines_what_is_at_least_half(tmp_path: Path, chest: Chest) -> None:
    hu, _, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    shares = np.where(infection, 0.6, 0.3).astype(np.float32)[..., None]
    write_seg(tmp_path / "anna" / "seg.dcm", images, shares, [segment(1, "infection")])
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("infection"), infection)


def test_a_label_map_is_read_and_stands_before_an_older_segmentation(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    describing = [segment(1, "Lung"), segment(2, "infection")]
    older = np.stack([lungs == 1, lungs == 1], axis=-1).astype(np.uint8)
    write_seg(tmp_path / "anna" / "z.dcm", images, older, describing)
    write_seg(tmp_path / "anna" / "a.dcm", images, np.where(infection, 2, lungs > 0).astype(np.uint8), describing)
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("lung"), lungs > 0)
    assert np.array_equal(sample.mask("infection"), infection)


def test_parts_beside_their_whole_in_one_label_map_belong_to_it(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    dense = infection & (np.arange(hu.shape[-1]) % 2 == 0)
    label_map = np.select([dense, infection, lungs == 1, lungs > 0], [4, 3, 2, 1]).astype(np.uint8)
    names = ("Lung", "Left lung", "Infection", "Consolidation")
    describing = [segment(number, name) for number, name in enumerate(names, start=1)]
    write_seg(tmp_path / "anna" / "seg.dcm", images, label_map, describing)
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("infection"), infection)
    assert np.array_equal(sample.mask("lung"), lungs > 0)
    assert np.array_equal(sample.mask("consolidation"), dense)


@pytest.mark.parametrize("kind", ["RT Structure Set Storage", "Surface Segmentation Storage"])
def test_a_correction_of_a_kind_that_is_not_read_is_refused_beside_first_labels_alone(
    tmp_path: Path, chest: Chest, kind: str
) -> None:
    seg, other = draw_infection(tmp_path / "anna", chest), tmp_path / "anna" / "other.dcm"
    unread = dcmread(seg)
    is_structures = kind.startswith("RT")
    unread.Modality = "RTSTRUCT" if is_structures else "SEG"
    unread.SOPClassUID = RTStructureSetStorage if is_structures else SurfaceSegmentationStorage
    unread.save_as(other)
    assert len(list(datasets.read("dicom", tmp_path))) == 1
    make_hilums(seg)
    with pytest.raises(BadData, match=f"other.dcm: Hilum does not read {kind}; save it as DICOM SEG"):
        list(datasets.read("dicom", tmp_path))


def test_a_segment_of_an_unknown_name_is_refused_beside_first_labels_alone(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    masks = np.where(infection, 2, lungs > 0).astype(np.uint8)
    write_seg(tmp_path / "anna" / "drawn.dcm", images, masks, [segment(1, "Lung"), segment(2, "GGO")])
    (sample,) = datasets.read("dicom", tmp_path)
    assert sample.masks.keys() == {"lung"}
    write_seg(tmp_path / "anna" / "a.dcm", images, infection[..., None].astype(np.uint8), [segment(1, "infection")])
    make_hilums(tmp_path / "anna" / "a.dcm")
    with pytest.raises(BadData, match=r"drawn.dcm: Hilum knows no structure called GGO, so that the first labels"):
        list(datasets.read("dicom", tmp_path))


def test_a_segmentation_that_refers_to_no_series_is_named(tmp_path: Path, chest: Chest) -> None:
    path = draw_infection(tmp_path / "anna", chest)
    ds = dcmread(path)
    del ds.ReferencedSeriesSequence
    ds.save_as(path)
    with pytest.raises(BadData, match=r"seg.dcm: does not say which CT series"):
        list(datasets.read("dicom", tmp_path))


def test_a_patient_without_a_segmentation_is_named(tmp_path: Path, chest: Chest) -> None:
    ct_series(tmp_path / "anna", chest[0])
    with pytest.raises(BadData, match="anna: expected a DICOM SEG"):
        list(datasets.read("dicom", tmp_path))


def test_a_segmentation_without_its_series_is_named(tmp_path: Path, chest: Chest) -> None:
    draw_infection(tmp_path / "anna", chest)
    shutil.rmtree(tmp_path / "anna" / "ct")
    with pytest.raises(BadData, match=r"seg.dcm: the CT series it was drawn on"):
        list(datasets.read("dicom", tmp_path))


def test_a_segmentation_of_other_images_of_its_series_is_refused(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    masks = np.stack([lungs > 0, infection], axis=-1).astype(np.uint8)
    write_seg(tmp_path / "anna" / "seg.dcm", images, masks, [segment(1, "Lung"), segment(2, "infection")])
    for image in images[-2:]:
        ds = dcmread(image)  # as after a de-identification of the images, but not of the SEG
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(image)
    with pytest.raises(BadData, match=r"seg.dcm: \d of \d+ frames name no slices of its series as their source"):
        list(datasets.read("dicom", tmp_path))


@pytest.mark.parametrize(("axis", "orientation"), [(2, (-1, 0, 0, 0, 1, 0)), (1, (1, 0, 0, 0, -1, 0))])
def test_a_segmentation_whose_pixels_lie_elsewhere_than_those_of_its_slices_is_refused(
    tmp_path: Path, chest: Chest, axis: int, orientation: Sequence[float]
) -> None:
    hu, _, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    path = tmp_path / "anna" / "seg.dcm"
    mirrored = np.ascontiguousarray(np.flip(infection, axis)[..., None].astype(np.uint8))
    write_seg(path, images, mirrored, [segment(1, "infection")])
    ds = dcmread(path)  # rows or columns run the other way, and the header says so
    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = list(orientation)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2 - axis] += 3 * (hu.shape[axis] - 1)
    ds.save_as(path)
    with pytest.raises(BadData, match=r"seg.dcm: 2 of 2 frames lie elsewhere than the slices that they name"):
        list(datasets.read("dicom", tmp_path))


@pytest.mark.parametrize("write_ct", [ct_series, multiframe_ct])
def test_frames_that_name_no_source_lie_where_their_position_is(
    tmp_path: Path, chest: Chest, write_ct: Callable[..., list[Path]]
) -> None:
    path, infection = draw_infection(tmp_path / "anna", chest, write_ct), chest[2]
    ds = dcmread(path)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.DerivationImageSequence[0].SourceImageSequence = []
    ds.save_as(path)
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("infection"), infection)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    ds.save_as(path)
    (sample,) = datasets.read("dicom", tmp_path)
    assert np.array_equal(sample.mask("infection"), infection)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += 1
    ds.save_as(path)
    with pytest.raises(BadData, match=r"seg.dcm: 2 of 2 frames name no slices"):
        list(datasets.read("dicom", tmp_path))


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_damaged_segmentation_is_called_so(tmp_path: Path, chest: Chest, share: float) -> None:
    path = draw_infection(tmp_path / "anna", chest)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    with pytest.raises(BadData, match=r"seg.dcm: (is no whole SEG|its frames cannot be decoded|does not say)"):
        list(datasets.read("dicom", tmp_path))


def test_a_segmentation_without_a_list_of_its_frames_is_called_damaged(tmp_path: Path, chest: Chest) -> None:
    path = draw_infection(tmp_path / "anna", chest)
    ds = dcmread(path)
    del ds.PerFrameFunctionalGroupsSequence
    ds.save_as(path)
    with pytest.raises(BadData, match=r"seg.dcm: is no whole SEG"):
        list(datasets.read("dicom", tmp_path))


def test_a_segmentation_whose_frames_each_come_from_several_frames_is_refused(tmp_path: Path, chest: Chest) -> None:
    path = draw_infection(tmp_path / "anna", chest, multiframe_ct)
    ds = dcmread(path)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = [1, 2]
    ds.save_as(path)
    with pytest.raises(BadData, match=r"seg.dcm: is no whole SEG"):
        list(datasets.read("dicom", tmp_path))


def test_a_window_that_is_no_number_counts_as_none(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, _ = chest
    images = ct_series(tmp_path / "anna" / "ct", hu, WindowCenter="1234", WindowWidth="1501")
    write_seg(tmp_path / "anna" / "seg.dcm", images, (lungs > 0)[..., None].astype(np.uint8), [segment(1, "Lung")])
    for image in images:
        image.write_bytes(image.read_bytes().replace(b"DS\x04\x001234", b"DS\x04\x00lung"))
    (sample,) = datasets.read("dicom", tmp_path)
    assert sample.window_hu is None


def test_a_scan_without_any_lung_in_its_segmentation_is_refused(tmp_path: Path, chest: Chest) -> None:
    hu, lungs, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    masks = np.stack([lungs < 0, infection], axis=-1).astype(np.uint8)
    write_seg(tmp_path / "anna" / "seg.dcm", images, masks, [segment(1, "Lung"), segment(2, "infection")])
    with pytest.raises(BadData, match="anna: its lung masks are empty"):
        list(datasets.read("dicom", tmp_path))


def test_a_segmentation_of_nothing_known_is_named(tmp_path: Path, chest: Chest) -> None:
    hu, _, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu)
    write_seg(tmp_path / "anna" / "seg.dcm", images, infection[..., None].astype(np.uint8), [segment(1, "Spleen")])
    with pytest.raises(BadData, match=r"seg.dcm: no segment is one of"):
        list(datasets.read("dicom", tmp_path))


def test_a_series_with_a_slice_missing_is_named(tmp_path: Path, chest: Chest) -> None:
    hu, _, infection = chest
    images = ct_series(tmp_path / "anna" / "ct", hu, keep=[0, 1, 2, 4, 5, 6, 7])
    masks = np.delete(infection, 3, axis=0)[..., None].astype(np.uint8)
    write_seg(tmp_path / "anna" / "seg.dcm", images, masks, [segment(1, "infection")])
    with pytest.raises(BadData, match="anna: expected a slice every"):
        list(datasets.read("dicom", tmp_path))
