"""The frames of a segmentation compared with those that highdicom makes from all source images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.settings import ReportSettings
from tests.factories import chest_hu, ct_series, multiframe_ct
from tests.worker.reports.results import MADE_AT, SHAPE, findings_of
from worker.reports import write_reports
from worker.volume import Volume, read_volume

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
SERIES: dict[str, dict[str, Any]] = {
    "axial": {},
    "shuffled": {"seed": 3},
    "from the head": {"orientation": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)},
    "oblique": {"orientation": OBLIQUE},
    "tilted": {"tilt_degrees": 15},
    "lossy": {"LossyImageCompression": "01", "LossyImageCompressionRatio": "10"},
}
OF_NO_FRAME = (
    # Hilum's own identity, times, names and equipment, and UIDs that highdicom generates
    *("SpecificCharacterSet", "ContributingEquipmentSequence", "SeriesDescription", "BodyPartExamined"),
    *("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime", "SeriesDate", "SeriesTime"),
    *("DimensionOrganizationSequence", "PositionReferenceIndicator", "SegmentSequence"),
)


def by_highdicom(ours: Dataset, volume: Volume, labels: NDArray[np.uint8]) -> Dataset:
    """Return the segmentation that highdicom makes of the same masks and all source images."""
    sources = [dcmread(path, stop_before_pixels=True) for path in dict.fromkeys(s.path for s in volume.slices)]
    numbers = [slice_.frame_number for slice_ in volume.slices]
    planes = labels if None in numbers else labels[np.argsort(numbers)]
    segments = [item for item in ours.SegmentSequence if item.SegmentLabel != "Background"]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type=ours.SegmentationType,
        segment_descriptions=[hd.seg.SegmentDescription.from_dataset(item) for item in segments],
        series_instance_uid=ours.SeriesInstanceUID,
        series_number=ours.SeriesNumber,
        sop_instance_uid=ours.SOPInstanceUID,
        instance_number=ours.InstanceNumber,
        manufacturer=ours.Manufacturer,
        manufacturer_model_name=ours.ManufacturerModelName,
        software_versions=ours.SoftwareVersions,
        device_serial_number=ours.DeviceSerialNumber,
        transfer_syntax_uid=ours.file_meta.TransferSyntaxUID,
        content_label=ours.ContentLabel,
        content_description=ours.ContentDescription,
    )


def comparable(ds: Dataset) -> dict[str, Any]:
    """Return the attributes of a segmentation that concern its frames, as a JSON dictionary."""
    del ds.SharedFunctionalGroupsSequence[0].FrameAnatomySequence
    for index in ds.DimensionIndexSequence:
        del index.DimensionOrganizationUID
    if ds.BitsAllocated == 1:  # highdicom pads an odd length with the character "0"
        ds.PixelData = ds.PixelData[: math.ceil(ds.NumberOfFrames * ds.Rows * ds.Columns / 8)]
    for keyword in OF_NO_FRAME:
        if keyword in ds:
            delattr(ds, keyword)
    return ds.to_json_dict()


def assert_as_highdicom(folder: Path, paths: list[Path], labels: NDArray[np.uint8], *, form: Any) -> None:
    volume = read_volume(paths)
    infection = labels == 1
    findings = findings_of(volume, labels, infection)
    objects = write_reports(volume, findings, folder, ReportSettings(segmentation=form), MADE_AT)
    given = {"lungs": labels, "right-lung": (labels == 2).view(np.uint8), "infection": infection.view(np.uint8)}
    segmentations = [item for item in objects if item.kind in given]
    assert len(segmentations) >= 1
    for item in segmentations:
        theirs = by_highdicom(dcmread(item.path), volume, given[item.kind])
        theirs.save_as(folder / "theirs.dcm")
        theirs = dcmread(folder / "theirs.dcm")
        theirs.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = []
        assert comparable(dcmread(item.path)) == comparable(theirs)


@pytest.mark.parametrize("form", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("name", SERIES)
def test_frames_of_single_slices_are_those_that_highdicom_makes(tmp_path: Path, name: str, form: Any) -> None:
    hu, labels, _ = chest_hu(SHAPE)

    assert_as_highdicom(tmp_path, ct_series(tmp_path / "ct", hu, **SERIES[name]), labels, form=form)


@pytest.mark.parametrize("form", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("legacy_converted", [False, True])
def test_frames_of_a_multi_frame_object_are_those_that_highdicom_makes(
    tmp_path: Path, form: Any, *, legacy_converted: bool
) -> None:
    hu, labels, _ = chest_hu(SHAPE)
    paths = multiframe_ct(tmp_path / "ct", hu, seed=7, legacy_converted=legacy_converted)

    assert_as_highdicom(tmp_path, paths, labels, form=form)


@pytest.mark.parametrize("form", ["BINARY", "LABELMAP"])
def test_frames_between_empty_ones_are_those_that_highdicom_makes(tmp_path: Path, form: Any) -> None:
    hu, labels, _ = chest_hu(SHAPE)
    labels[5:7] = 0
    labels[4][labels[4] == 1] = 0

    assert_as_highdicom(tmp_path, ct_series(tmp_path / "ct", hu), labels, form=form)


def test_frames_that_do_not_fill_whole_bytes_are_those_that_highdicom_makes(tmp_path: Path) -> None:
    hu, labels, _ = chest_hu((11, 33, 35))

    assert_as_highdicom(tmp_path, ct_series(tmp_path / "ct", hu), labels, form="BINARY")


def test_frames_of_one_lung_alone_are_those_that_highdicom_makes(tmp_path: Path) -> None:
    hu, labels, _ = chest_hu(SHAPE)
    labels[labels == 1] = 0

    assert_as_highdicom(tmp_path, ct_series(tmp_path / "ct", hu), labels, form="LABELMAP")


def test_one_frame_is_that_which_highdicom_makes(tmp_path: Path) -> None:
    hu, labels, _ = chest_hu(SHAPE)
    labels[:6], labels[7:] = 0, 0

    assert_as_highdicom(tmp_path, ct_series(tmp_path / "ct", hu), labels, form="BINARY")
