from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite

from dicom_node.errors import NotAnalysable, NotForHilum, PassingFailure, RejectedInput
from tests.factories import AXIAL, ct_series, gradient_hu, multiframe_ct, slice_positions
from worker.volume import read_volume

UNIT = np.eye(3)
STRAIGHT = [
    (*(a * UNIT[i]), *(b * UNIT[j])) for i, j in permutations(range(3), 2) for a, b in product((1, -1), repeat=2)
]


@st.composite
def orientations(draw: st.DrawFn) -> tuple[float, ...]:
    """Draw direction cosines: any signs and exchange of axes, straight or turned by up to 30 degrees about two axes."""
    row_column = np.asarray(draw(st.sampled_from(STRAIGHT))).reshape(2, 3)
    angles = np.radians([draw(st.sampled_from([0, 7, -30])), draw(st.sampled_from([0, 11, 25]))])
    c, s = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, c[0], -s[0]], [0, s[0], c[0]]])
    about_z = np.array([[c[1], -s[1], 0], [s[1], c[1], 0], [0, 0, 1]])
    return tuple((row_column @ (about_x @ about_z).T).ravel())


@settings(max_examples=60)
@given(
    orientation=orientations(),
    seed=st.integers(0, 99),
    spacing=st.tuples(st.sampled_from([0.7, 2.0, 5.0]), st.sampled_from([0.6, 1.5]), st.sampled_from([0.8, 1.1])),
    tilt=st.sampled_from([0.0, 12.0, -20.0]),
)
def test_every_voxel_lies_where_its_slice_says(
    orientation: tuple[float, ...], seed: int, spacing: tuple[float, float, float], tilt: float
) -> None:
    hu = gradient_hu()
    with TemporaryDirectory() as folder:
        paths = ct_series(Path(folder), hu, orientation=orientation, spacing_mm=spacing, tilt_degrees=tilt, seed=seed)
        volume = read_volume(paths)
    np.testing.assert_array_equal(volume.hu, hu)
    origins = volume.geometry.to_patient(np.array([[i, 0, 0] for i in range(len(hu))]))
    expected = slice_positions(len(hu), orientation, (-150, -140, -200), spacing[0], tilt)
    np.testing.assert_allclose(origins, expected, atol=1e-3)
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    corner = volume.geometry.to_patient(np.array([[0, 5, 6]]))[0]
    np.testing.assert_allclose(corner, expected[0] + 5 * spacing[1] * column + 6 * spacing[2] * row, atol=1e-3)


@settings(max_examples=24)
@given(orientation=st.sampled_from(STRAIGHT), seed=st.integers(0, 99))
def test_simpleitk_finds_the_same_values_at_the_same_places(orientation: tuple[float, ...], seed: int) -> None:
    with TemporaryDirectory() as folder:
        paths = ct_series(Path(folder), gradient_hu(), orientation=orientation, spacing_mm=(2.0, 0.6, 0.9), seed=seed)
        volume = read_volume(paths)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
        image = reader.Execute()
    for index in [(0, 0, 0), (4, 0, 0), (1, 5, 2), (3, 2, 6)]:
        point = volume.geometry.to_patient(np.array([index]))[0]
        assert image[image.TransformPhysicalPointToIndex(point)] == volume.hu[index]


def test_slices_name_the_instances_they_came_from(tmp_path: Path) -> None:
    volume = read_volume(ct_series(tmp_path, gradient_hu(), seed=4))
    for source, plane in zip(volume.slices, volume.hu, strict=True):
        ds = dcmread(source.path)
        assert ds.SOPInstanceUID == source.sop_instance_uid
        np.testing.assert_array_equal(ds.pixel_array.astype(int) - 1024, plane)


@pytest.mark.parametrize("legacy_converted", [False, True])
def test_a_multiframe_ct_reads_like_the_series_it_could_have_been(tmp_path: Path, legacy_converted: bool) -> None:
    hu = gradient_hu((20, 6, 7))
    series = read_volume(ct_series(tmp_path / "single", hu))
    multi = read_volume(multiframe_ct(tmp_path / "multi", hu, legacy_converted=legacy_converted, seed=3))
    np.testing.assert_array_equal(multi.hu, hu)
    np.testing.assert_allclose(multi.geometry.affine, series.geometry.affine)
    stored = dcmread(multi.slices[0].path).pixel_array.astype(int) - 1024
    for source, plane in zip(multi.slices, hu, strict=True):
        assert source.frame_number is not None
        np.testing.assert_array_equal(stored[source.frame_number - 1], plane)


def test_a_multiframe_ct_may_have_no_group_shared_by_all_frames(tmp_path: Path) -> None:
    (path,) = multiframe_ct(tmp_path, gradient_hu())
    ds = dcmread(path)
    shared = ds.SharedFunctionalGroupsSequence[0]
    del shared.PixelValueTransformationSequence[0].RescaleType  # optional, so it is sought in both places
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.update(shared)
    del ds.SharedFunctionalGroupsSequence
    ds.save_as(path)
    np.testing.assert_array_equal(read_volume([path]).hu, gradient_hu())


def test_a_fractional_rescale_is_rounded(tmp_path: Path) -> None:
    hu = gradient_hu()
    volume = read_volume(ct_series(tmp_path, hu, slope=0.37, intercept=-1000.5))
    assert np.abs(volume.hu - hu).max() <= 1


def test_padding_reads_as_air_outside_the_field_of_view(tmp_path: Path) -> None:
    hu = gradient_hu()
    hu[:, 0, 0] = 3000
    volume = read_volume(ct_series(tmp_path, hu, PixelPaddingValue=4024))
    assert (volume.hu[:, 0, 0] == -1024).all()
    np.testing.assert_array_equal(volume.hu[:, 1:], hu[:, 1:])


def test_an_empty_end_of_a_padding_range_is_none(tmp_path: Path) -> None:
    hu = gradient_hu()
    hu[:, 0, 0] = 3000
    volume = read_volume(ct_series(tmp_path, hu, PixelPaddingValue=4024, PixelPaddingRangeLimit=""))
    assert (volume.hu[:, 0, 0] == -1024).all()
    np.testing.assert_array_equal(volume.hu[:, 1:], hu[:, 1:])


def test_a_padding_range_reads_as_air(tmp_path: Path) -> None:
    hu = gradient_hu()
    hu[:, 0, 0], hu[:, 0, 1] = 2990, 3000
    volume = read_volume(ct_series(tmp_path, hu, PixelPaddingValue=4024, PixelPaddingRangeLimit=4014))
    assert (volume.hu[:, 0, :2] == -1024).all()


def test_a_signed_padding_value_written_as_unsigned_is_understood(tmp_path: Path) -> None:
    hu = gradient_hu()
    hu[:, 0, 0] = -2000
    paths = ct_series(tmp_path, hu, signed=True, intercept=0)
    for path in paths:
        ds = dcmread(path)
        ds.add_new("PixelPaddingValue", "US", 65536 - 2000)
        ds.save_as(path)
    assert (read_volume(paths).hu[:, 0, 0] == -1024).all()


def test_nothing_is_below_the_lowest_hounsfield_value(tmp_path: Path) -> None:
    hu = np.full((3, 4, 4), -3024, np.int16)
    assert (read_volume(ct_series(tmp_path, hu, signed=True)).hu == -1024).all()


def test_bits_above_bits_stored_are_ignored(tmp_path: Path) -> None:
    hu = gradient_hu()
    paths = ct_series(tmp_path, hu)
    for path in paths:
        ds = dcmread(path)
        ds.BitsStored, ds.HighBit = 12, 11
        ds.PixelData = (np.frombuffer(ds.PixelData, np.uint16) | 0x8000).tobytes()  # an overlay plane
        ds.save_as(path)
    np.testing.assert_array_equal(read_volume(paths).hu, hu)


@pytest.mark.parametrize(
    ("is_implicit", "is_little_endian"), [(True, True), (False, True), (False, False)], ids=["implicit", "LE", "BE"]
)
def test_files_without_preamble_and_file_meta_are_read(
    tmp_path: Path, is_implicit: bool, is_little_endian: bool
) -> None:
    hu = gradient_hu()
    paths = ct_series(tmp_path, hu)
    for path in paths:
        ds = dcmread(path)
        if not is_little_endian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        elements = Dataset({element.tag: element for element in ds})  # decoded, so that they can be encoded otherwise
        dcmwrite(path, elements, implicit_vr=is_implicit, little_endian=is_little_endian, force_encoding=True)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_volume(paths).hu, hu)


def test_a_tilted_gantry_is_flagged_and_its_volume_is_right(tmp_path: Path) -> None:
    volume = read_volume(ct_series(tmp_path, gradient_hu(), tilt_degrees=15, spacing_mm=(2.0, 1.0, 1.0)))
    assert [flag.code for flag in volume.flags] == ["gantry-tilt"]
    assert not volume.flags[0].withholds_percentage
    assert volume.geometry.voxel_volume_ml == pytest.approx(0.002)


def test_an_untilted_gantry_is_not_flagged(tmp_path: Path) -> None:
    assert read_volume(ct_series(tmp_path, gradient_hu())).flags == ()


def refused(paths: list[Path], error: type[RejectedInput], code: str) -> None:
    with pytest.raises(error) as caught:
        read_volume(paths)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("attributes", "error", "code"),
    [
        ({"RescaleSlope": None}, NotAnalysable, "no-rescale"),
        ({"RescaleIntercept": None}, NotAnalysable, "no-rescale"),
        ({"RescaleType": "Z_EFF"}, NotAnalysable, "not-hounsfield"),
        ({"ImagePositionPatient": None}, NotAnalysable, "no-position"),
        ({"ImageOrientationPatient": None}, NotAnalysable, "no-orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, NotAnalysable, "invalid-orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.9, 0]}, NotAnalysable, "invalid-orientation"),
        ({"PixelSpacing": None}, NotAnalysable, "no-pixel-spacing"),
        ({"PixelSpacing": [0, 0]}, NotAnalysable, "no-pixel-spacing"),
        ({"PixelSpacing": [0.7, 0.00001]}, NotAnalysable, "no-pixel-spacing"),
        ({"ImagePositionPatient": [0, 0, 0]}, NotAnalysable, "duplicate-positions"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, NotForHilum, "localizer"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, NotForHilum, "not-ct"),
        ({"SamplesPerPixel": 3}, NotForHilum, "colour"),
        ({"RescaleSlope": None, "BodyPartExamined": "HEAD"}, NotForHilum, "no-rescale"),
        ({"RescaleSlope": None, "BodyPartExamined": None}, NotAnalysable, "no-rescale"),
    ],
)
def test_headers_that_cannot_be_measured_are_refused(
    tmp_path: Path, attributes: dict[str, Any], error: type[RejectedInput], code: str
) -> None:
    refused(ct_series(tmp_path, gradient_hu(), **attributes), error, code)


@pytest.mark.parametrize(
    "attributes", [{"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"SamplesPerPixel": 3}], ids=["scout", "dose"]
)
def test_what_is_no_slice_is_left_out_of_a_series_of_slices(tmp_path: Path, attributes: dict[str, Any]) -> None:
    slices = ct_series(tmp_path / "slices", gradient_hu())
    others = ct_series(tmp_path / "others", gradient_hu((1, 6, 7)), orientation=(1, 0, 0, 0, 0, -1), **attributes)
    volume = read_volume([*others, *slices])
    np.testing.assert_array_equal(volume.hu, gradient_hu())
    assert {slice_.path for slice_ in volume.slices} == set(slices)


@pytest.mark.parametrize(
    ("written", "thickness_mm"), [("2.5", 2.5), ("0", None), ("-1", None), ("", None), (None, None)]
)
def test_the_slices_thickness_is_what_the_header_says_where_it_is_a_length(
    tmp_path: Path, written: str | None, thickness_mm: float | None
) -> None:
    assert read_volume(ct_series(tmp_path, gradient_hu(), SliceThickness=written)).slice_thickness_mm == thickness_mm


def test_the_thickness_is_that_of_most_slices(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, gradient_hu(), SliceThickness="2.5")
    lowest = dcmread(paths[0])
    lowest.SliceThickness = "10"
    lowest.save_as(paths[0])
    assert read_volume(paths).slice_thickness_mm == 2.5


def test_a_multi_frame_cts_thickness_stands_in_its_groups(tmp_path: Path) -> None:
    assert read_volume(multiframe_ct(tmp_path, gradient_hu(), spacing_mm=(6.0, 3.0, 3.0))).slice_thickness_mm == 6


def test_a_malformed_number_is_refused(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, gradient_hu())
    data = paths[2].read_bytes()
    paths[2].write_bytes(data.replace(b"-150\\-140\\", b"-1x0\\-140\\"))
    refused(paths, NotAnalysable, "malformed-header")


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, gradient_hu())
    ds = dcmread(paths[2])
    ds.add_new("PerFrameFunctionalGroupsSequence", "LO", "no sequence")
    ds.save_as(paths[2])
    refused(paths, NotAnalysable, "malformed-header")


def test_a_storage_that_is_not_there_refuses_no_study(tmp_path: Path) -> None:
    with pytest.raises(PassingFailure) as caught:
        read_volume([tmp_path / "1.dcm"])
    assert caught.value.code == "storage-unreadable"


@pytest.mark.parametrize(("written", "number"), [(b"7777", 7777), (b"1.5 ", None), (b"abc ", None), (b"    ", None)])
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_an_odd_instance_number_is_none_and_refuses_nothing(tmp_path: Path, written: bytes, number: int | None) -> None:
    paths = ct_series(tmp_path, gradient_hu(), InstanceNumber=4321)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"4321", written))
    assert {slice_.instance_number for slice_ in read_volume(paths).slices} == {number}


def test_what_is_not_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are no pixels.\n" * 20)
    refused([path], NotForHilum, "not-ct")


def test_no_files_are_refused() -> None:
    refused([], NotForHilum, "no-images")


def test_one_slice_is_refused(tmp_path: Path) -> None:
    refused(ct_series(tmp_path, gradient_hu((1, 6, 7))), NotAnalysable, "too-few-slices")


@pytest.mark.parametrize("missing", [[3], [3, 4], [2, 6]])
def test_missing_slices_are_refused(tmp_path: Path, missing: list[int]) -> None:
    keep = [i for i in range(10) if i not in missing]
    paths = ct_series(tmp_path, gradient_hu((10, 4, 4)), keep=keep, seed=1)
    with pytest.raises(NotAnalysable, match=rf"{len(missing)} slice\(s\) are missing") as caught:
        read_volume(paths)
    assert caught.value.code == "missing-slices"


def test_a_slice_beside_another_fills_its_place_twice(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, gradient_hu((10, 4, 4)), spacing_mm=(5.0, 3.0, 3.0))
    moved(paths[4], (0.0, 0.0, -4.7))
    refused(paths, NotAnalysable, "duplicate-positions")


def moved(path: Path, by_mm: tuple[float, float, float]) -> None:
    ds = dcmread(path)
    ds.ImagePositionPatient = [p + d for p, d in zip(ds.ImagePositionPatient, by_mm, strict=True)]
    ds.save_as(path)


@pytest.mark.parametrize(("by_mm", "is_refused"), [(0.15, False), (0.45, True)])
def test_spacing_may_differ_by_a_tenth(tmp_path: Path, by_mm: float, is_refused: bool) -> None:
    paths = ct_series(tmp_path, gradient_hu(), spacing_mm=(2.0, 1.0, 1.0))
    moved(paths[2], (0, 0, by_mm))
    if is_refused:
        refused(paths, NotAnalysable, "uneven-spacing")
    else:
        assert read_volume(paths).hu.shape == (5, 6, 7)


@pytest.mark.parametrize("slice_mm", [0.625, 6.0])
@pytest.mark.parametrize(("share", "is_refused"), [(0.08, False), (0.16, True)])
def test_slices_may_lie_a_tenth_of_the_distance_off_their_even_places(
    tmp_path: Path, slice_mm: float, share: float, is_refused: bool
) -> None:
    paths = ct_series(tmp_path, gradient_hu((9, 6, 7)), spacing_mm=(slice_mm, 3.0, 3.0))
    for path, sign in ((paths[3], 1), (paths[4], -1)):  # so their distance is off by twice as much
        moved(path, (0, 0, sign * share * slice_mm))
    if is_refused:
        refused(paths, NotAnalysable, "uneven-spacing")
    else:
        assert read_volume(paths).hu.shape == (9, 6, 7)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, gradient_hu((9, 6, 7)), spacing_mm=(0.625, 1.0, 1.0))
    for path in paths:
        ds = dcmread(path)
        ds.ImagePositionPatient = [round(float(p), 1) for p in ds.ImagePositionPatient]
        ds.save_as(path)
    assert read_volume(paths).geometry.spacing_mm[0] == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize(
    ("slice_mm", "pixel_mm", "by_mm", "is_refused"),
    [(6.0, 1.0, 2.9, False), (6.0, 1.0, 3.1, True), (1.0, 3.0, 2.9, False), (1.0, 3.0, 3.1, True)],
)
def test_a_slice_may_be_shifted_sideways_by_a_pixel_or_by_half_the_distance_between_slices(
    tmp_path: Path, slice_mm: float, pixel_mm: float, by_mm: float, is_refused: bool
) -> None:
    paths = ct_series(tmp_path, gradient_hu(), spacing_mm=(slice_mm, pixel_mm, pixel_mm))
    moved(paths[2], (by_mm, 0, 0))
    if is_refused:
        refused(paths, NotAnalysable, "not-a-stack")
    else:
        assert read_volume(paths).hu.shape == (5, 6, 7)


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"orientation": (1, 0, 0, 0, 0, -1)}, "mixed-orientation"),
        ({"spacing_mm": (6.0, 2.0, 2.0)}, "mixed-pixel-spacing"),
        ({"SeriesInstanceUID": "1.2.3"}, "mixed-series"),
        ({"FrameOfReferenceUID": "1.2.3"}, "mixed-frame-of-reference"),
        ({"PatientID": "4711"}, "mixed-patient"),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(tmp_path: Path, other: dict[str, Any], code: str) -> None:
    alike: dict[str, Any] = {"SeriesInstanceUID": "1.2", "FrameOfReferenceUID": "1.2.1"}
    first = ct_series(tmp_path / "a", gradient_hu(), **alike)
    second = ct_series(tmp_path / "b", gradient_hu(), origin_mm=(-150, -140, -170), **(alike | other))
    refused(first + second, NotAnalysable, code)


def test_slices_without_a_patient_id_may_lie_among_others(tmp_path: Path) -> None:
    alike: dict[str, Any] = {"SeriesInstanceUID": "1.2", "FrameOfReferenceUID": "1.2.1"}
    first = ct_series(tmp_path / "a", gradient_hu(), **alike)
    second = ct_series(tmp_path / "b", gradient_hu(), origin_mm=(-150, -140, -170), PatientID="", **alike)
    assert len(read_volume(first + second).hu) == 10


def test_mixed_image_sizes_are_refused(tmp_path: Path) -> None:
    alike: dict[str, Any] = {"SeriesInstanceUID": "1.2", "FrameOfReferenceUID": "1.2.1"}
    first = ct_series(tmp_path / "a", gradient_hu(), **alike)
    second = ct_series(tmp_path / "b", gradient_hu((5, 8, 7)), origin_mm=(-150, -140, -170), **alike)
    refused(first + second, NotAnalysable, "mixed-image-size")


def test_messages_tell_no_patient_and_no_file(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, gradient_hu(), RescaleSlope=None, PatientName="Secret^Name", PatientID="S123")
    with pytest.raises(NotAnalysable) as caught:
        read_volume(paths)
    assert not any(word in caught.value.message for word in ("Secret", "S123", str(tmp_path), paths[0].name))


def test_the_named_body_part_travels_with_the_volume(tmp_path: Path) -> None:
    assert read_volume(ct_series(tmp_path, gradient_hu(), orientation=AXIAL)).body_part == "CHEST"


def test_kernel_and_contrast_agent_travel_with_the_volume(tmp_path: Path) -> None:
    plain = read_volume(ct_series(tmp_path / "plain", gradient_hu()))
    assert (plain.kernel, plain.has_contrast_agent) == ("STANDARD", False)
    enhanced = read_volume(ct_series(tmp_path / "enhanced", gradient_hu(), ContrastBolusAgent="Iopamidol"))
    assert enhanced.has_contrast_agent
    iterative = read_volume(ct_series(tmp_path / "iterative", gradient_hu(), ConvolutionKernel=["I70f", "2"]))
    assert iterative.kernel == "I70f 2"


def test_a_volume_was_taken_with_contrast_if_any_frame_was(tmp_path: Path) -> None:
    (path,) = multiframe_ct(tmp_path, gradient_hu(), ContrastBolusAgentSequence=[Dataset()])
    ds = dcmread(path)
    groups = ds.PerFrameFunctionalGroupsSequence
    for is_given in (False, True):
        for index, group in enumerate(groups):
            usage = Dataset()
            usage.ContrastBolusAgentAdministered = "YES" if is_given and index == len(groups) - 1 else "NO"
            group.ContrastBolusUsageSequence = [usage]
        ds.save_as(path)
        assert read_volume([path]).has_contrast_agent == is_given


@pytest.mark.parametrize("legacy_converted", [False, True])
@pytest.mark.parametrize("kernel_of_each_frame", [False, True])
def test_the_kernel_of_a_multi_frame_object_travels_with_the_volume(
    tmp_path: Path, legacy_converted: bool, kernel_of_each_frame: bool
) -> None:
    paths = multiframe_ct(
        tmp_path,
        gradient_hu(),
        legacy_converted=legacy_converted,
        kernel=["I70f", "2"],
        kernel_of_each_frame=kernel_of_each_frame,
    )
    assert read_volume(paths).kernel == "I70f 2"
