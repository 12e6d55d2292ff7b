"""The frames of a segmentation: their pixels and functional groups, encoded directly as the bytes of the file.

highdicom and pydicom build a frame's functional groups from ten nested data sets and walk each of them several times,
which takes 1.3 ms a frame. The frames differ only in a position, a reference and two numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from highdicom.frame import encode_frame
from highdicom.seg import SegmentationTypeValues
from highdicom.spatial import get_volume_positions
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless
from pydicom.valuerep import format_number_as_ds

from worker.reports import codes
from worker.reports.encoding import add_sequence, code, element, sequence, text
from worker.reports.labelmap import LABELMAP, LabelMap
from worker.volume import SourceSlice, Volume

_PURPOSE = sequence("PurposeOfReferenceCodeSequence", code(codes.SOURCE_IMAGE_FOR_PROCESSING))
_DERIVATION = sequence("DerivationCodeSequence", code(codes.SEGMENTATION))


def add_frames(ds: Dataset, volume: Volume, label_map: LabelMap, form: SegmentationTypeValues) -> None:
    """Add all frames to a segmentation, with their references to source images and their spacing.

    Empty frames of a segment are left out (PS3.3 A.51, A.90). The frames are in highdicom's order: segment by segment,
    and within a segment from the volume's last slice to its first.
    """
    order = label_map.slices[::-1]
    place = {index: number for number, index in enumerate(order, 1)}
    if form is LABELMAP:
        groups = [_functional_groups(volume.slices[index], (place[index],)) for index in order]
        pixels = encapsulate([_run_length_encoded(label_map, index, ds) for index in order])
    else:
        frames = [
            (number, segment, index)
            for number, segment in enumerate(label_map.segments, 1)
            for index in reversed(segment.slices)
        ]
        is_shared = len(label_map.segments) == 1  # the shared functional groups identify the segment
        groups = [
            _functional_groups(volume.slices[index], (number, place[index]), None if is_shared else number)
            for number, _, index in frames
        ]
        pixels = _packed([(label_map.labels[index], segment.value) for _, segment, index in frames])
    ds.NumberOfFrames = len(groups)
    add_sequence(ds, "PerFrameFunctionalGroupsSequence", *groups)
    ds.add_new("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2))
    _add_references(ds, volume)
    _add_spacing(ds, volume, order, is_one_a_slice=form is LABELMAP or len(label_map.segments) == 1)


def _functional_groups(
    source: SourceSlice, dimension_indices: Sequence[int], segment_number: int | None = None
) -> bytes:
    """Return a frame's own functional groups: source, dimension indices, position, segment (PS3.3 C.7.6.16.2)."""
    number = source.frame_number
    image = (
        _reference(source)
        + (text("ReferencedFrameNumber", "IS", str(number)) if number is not None else b"")
        + text("SpatialLocationsPreserved", "CS", "YES")
        + _PURPOSE
    )
    indices = struct.pack(f"<{len(dimension_indices)}I", *dimension_indices)
    position = "\\".join(format_number_as_ds(mm) for mm in source.position_mm)
    groups = (
        sequence("DerivationImageSequence", sequence("SourceImageSequence", image) + _DERIVATION)
        + sequence("FrameContentSequence", element("DimensionIndexValues", "UL", indices))
        + sequence("PlanePositionSequence", text("ImagePositionPatient", "DS", position))
    )
    if segment_number is not None:
        segment = element("ReferencedSegmentNumber", "US", struct.pack("<H", segment_number))
        groups += sequence("SegmentIdentificationSequence", segment)
    return groups


def _packed(frames: Sequence[tuple[NDArray[np.uint8], int]]) -> bytes:
    """Return the mask of each (plane, value), one bit a pixel (PS3.5 8.1.1); eight frames always fill whole bytes."""
    eights = (frames[start : start + 8] for start in range(0, len(frames), 8))
    return b"".join(
        np.packbits(np.stack([plane == value for plane, value in eight]), bitorder="little").tobytes()
        for eight in eights
    )


def _run_length_encoded(label_map: LabelMap, index: int, ds: Dataset) -> bytes:
    """Return a slice of the label map, run-length encoded; each pixel holds its segment's number, or 0."""
    numbers = np.zeros(256, np.uint8)
    for number, segment in enumerate(label_map.segments, 1):
        numbers[segment.value] = number
    return encode_frame(
        numbers[label_map.labels[index]],
        transfer_syntax_uid=RLELossless,
        bits_allocated=8,
        bits_stored=8,
        photometric_interpretation=ds.PhotometricInterpretation,
    )


def _add_references(ds: Dataset, volume: Volume) -> None:
    """Refer to every source image, including those without a segment."""
    references = [_reference(source) for source in {source.path: source for source in volume.slices}.values()]
    add_sequence(ds, "SourceImageSequence", *references)
    series = ds.ReferencedSeriesSequence[0].SeriesInstanceUID
    instances = sequence("ReferencedInstanceSequence", *references) + text("SeriesInstanceUID", "UI", series)
    add_sequence(ds, "ReferencedSeriesSequence", instances)


def _reference(source: SourceSlice) -> bytes:
    return text("ReferencedSOPClassUID", "UI", source.sop_class_uid) + text(
        "ReferencedSOPInstanceUID", "UI", source.sop_instance_uid
    )


def _add_spacing(ds: Dataset, volume: Volume, order: Sequence[int], *, is_one_a_slice: bool) -> None:
    """Set Spacing Between Slices of the source, and Dimension Organization Type 3D if the frames form a volume.

    A tilted stack gets neither.
    """
    shared = ds.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    positions = [source.position_mm for source in volume.slices]
    spacing_mm, _ = get_volume_positions(positions, orientation)
    measures = shared.PixelMeasuresSequence[0]
    if spacing_mm is None:
        del measures.SpacingBetweenSlices
    else:
        measures.SpacingBetweenSlices = format_number_as_ds(spacing_mm)
    held = [positions[index] for index in order]
    if is_one_a_slice and len(held) > 1 and get_volume_positions(held, orientation, sort=False)[0]:
        ds.DimensionOrganizationType = "3D"
