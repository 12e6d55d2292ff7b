"""Read DICOM segmentations (SEG), including label maps, as masks of the CT series that they were drawn on.

Segments are recognised by their label, or by their coded type and laterality.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from highdicom.seg import SOP_CLASS_UIDS, Segmentation
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from dicom_node.headers import UNREADABLE, SeriesHeader, nested, numbers
from dicom_node.study import MANUFACTURER
from training.datasets.sample import (
    CONSOLIDATION,
    GROUND_GLASS_OPACITY,
    INFECTION,
    LEFT_LUNG,
    LUNG,
    PLEURAL_EFFUSION,
    RIGHT_LUNG,
    BadData,
)
from worker.geometry import Geometry
from worker.reports.history import time_of
from worker.reports.uids import is_derived
from worker.volume import SourceSlice, Volume

STRUCTURES = frozenset({LUNG, LEFT_LUNG, RIGHT_LUNG, INFECTION, GROUND_GLASS_OPACITY, CONSOLIDATION, PLEURAL_EFFUSION})


POSITION_MM = 0.1
"""A frame closer than this to a slice lies on it; such a difference is rounding."""

_DAMAGES = (*UNREADABLE, RuntimeError, sqlite3.Error)
"""What pydicom and highdicom, which keeps its frames in a database, raise on a SEG that is damaged."""


def read_masks(path: Path, volume: Volume) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of a SEG on the volume's slices, by structure; segments of other things are left out.

    Slices that the SEG leaves out are empty (PS3.3 A.51).

    Raises
    ------
    BadData
        When the SEG is damaged, no segment is a known structure, or it lies on other slices or pixels than the volume.
    """
    try:
        ds = dcmread(path)
        _name_sources(ds, volume)
        segmentation = Segmentation.from_dataset(ds, copy=False)
        _require_frames_on(volume, segmentation, path)
    except _DAMAGES as error:
        raise BadData("unreadable-file", f"{path}: is no whole SEG: {error}") from error
    structures = {segment.SegmentNumber: structure_of(segment) for segment in segments_of(segmentation)}
    known = {number: structure for number, structure in structures.items() if structure is not None}
    if not known:
        raise BadData("unknown-structure", f"{path}: no segment is one of {', '.join(sorted(STRUCTURES))}")
    pixels = _pixels(segmentation, volume, sorted(known), path)
    masks: dict[str, NDArray[np.bool_]] = {}
    for index, number in enumerate(sorted(known)):
        mask = pixels[..., index]
        masks[known[number]] = masks.get(known[number], np.zeros_like(mask)) | mask
    return masks


def segments_of(ds: Dataset) -> list[Dataset]:
    """Return the descriptions of a SEG's segments, without the background of a label map."""
    background = ds.get("PixelPaddingValue", 0)
    return [item for item in ds.get("SegmentSequence", ()) if item.get("SegmentNumber") != background]


def structure_of(segment: Dataset) -> str | None:
    """Return the structure that a segment's label names, else the lung of its coded type and laterality, else None."""
    label = str(segment.get("SegmentLabel", "")).strip().lower().replace(" ", "_").replace("-", "_")
    if label in STRUCTURES:
        return label
    if nested(segment, "SegmentedPropertyTypeCodeSequence", "CodeValue") != "39607008":  # SCT, Lung
        return None
    sides = {"7771000": LEFT_LUNG, "24028007": RIGHT_LUNG}  # SCT, Left and Right
    modifiers = segment.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence", [])
    return next((sides[m.CodeValue] for m in modifiers if m.get("CodeValue") in sides), LUNG)


def unknown_names(ds: Dataset) -> str:
    """Return the labels of a SEG's segments that are no structure, separated by commas."""
    return ", ".join(str(item.get("SegmentLabel")) for item in segments_of(ds) if structure_of(item) is None)


def _name_sources(ds: Dataset, volume: Volume) -> None:
    """Set the source of each frame that names none, which is optional, to the slice at the frame's position."""
    for frame in ds.get("PerFrameFunctionalGroupsSequence", ()):
        position = numbers(nested(frame, "PlanePositionSequence", "ImagePositionPatient"))
        if _sources_of(frame) or position is None:
            continue
        nearest = min(volume.slices, key=lambda slice_: math.dist(slice_.position_mm, position))
        if math.dist(nearest.position_mm, position) < POSITION_MM:
            source, derivation = Dataset(), Dataset()
            source.ReferencedSOPInstanceUID = nearest.sop_instance_uid
            source.ReferencedFrameNumber = nearest.frame_number
            derivation.SourceImageSequence = [source]
            frame.DerivationImageSequence = [derivation]


def _sources_of(frame: Dataset) -> list[Dataset]:
    """Return the items that name a frame's sources."""
    return [item for of in frame.get("DerivationImageSequence", ()) for item in of.get("SourceImageSequence", ())]


def _require_frames_on(volume: Volume, segmentation: Segmentation, path: Path) -> None:
    """Refuse a SEG with a frame of other images, whose masks would be lost, or placed otherwise, e.g. mirrored."""
    slices = {(slice_.sop_instance_uid, slice_.frame_number): slice_ for slice_ in volume.slices}
    is_multiframe = volume.slices[0].frame_number is not None
    frames = segmentation.PerFrameFunctionalGroupsSequence
    shared = next(iter(segmentation.get("SharedFunctionalGroupsSequence", ())), Dataset())
    strange = displaced = 0
    for frame in frames:
        sources = {
            (item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber") if is_multiframe else None)
            for item in _sources_of(frame)
        }
        if not sources or not sources <= slices.keys():
            strange += 1
        elif not all(_lies_on(slices[source], frame, shared, volume.geometry) for source in sources):
            displaced += 1
    if strange:
        raise BadData(
            "wrong-source",
            f"{path}: {strange} of {len(frames)} frames name no slices of its series as their source",
        )
    if displaced:
        raise BadData(
            "wrong-place",
            f"{path}: {displaced} of {len(frames)} frames lie elsewhere than the slices that they name, by their "
            "position, orientation or pixel spacing; save it on the pixels of the CT",
        )


def _lies_on(slice_: SourceSlice, frame: Dataset, shared: Dataset, geometry: Geometry) -> bool:
    """Whether each corner of a frame is that of a slice, to half a voxel; values that the frame lacks are the slice's.

    Parameters
    ----------
    shared : Dataset
        The functional groups that all frames share.
    """

    def value(sequence: str, keyword: str, default: NDArray[np.float64]) -> NDArray[np.float64]:
        found = numbers(nested(frame, sequence, keyword)) or numbers(nested(shared, sequence, keyword)) or ()
        return np.array(found) if len(found) == len(default) else default

    _, rows, columns = geometry.shape
    spacing_mm = np.array(geometry.spacing_mm[1:])
    to_mm = geometry.affine[:3, :3]
    down, right = to_mm[:, 1], to_mm[:, 2]  # from one row, and from one column, to the next
    cosines = np.concatenate([right / spacing_mm[1], down / spacing_mm[0]])
    position = value("PlanePositionSequence", "ImagePositionPatient", np.array(slice_.position_mm))
    along_row, along_column = value("PlaneOrientationSequence", "ImageOrientationPatient", cosines).reshape(2, 3)
    row_mm, column_mm = value("PixelMeasuresSequence", "PixelSpacing", spacing_mm)
    first = position - slice_.position_mm
    last_in_row = first + (columns - 1) * (along_row * column_mm - right)
    last_in_column = first + (rows - 1) * (along_column * row_mm - down)
    voxels_off = np.linalg.solve(to_mm, np.stack([first, last_in_row, last_in_column], axis=1))
    return bool(np.abs(voxels_off).max() < 0.5)


def _pixels(segmentation: Segmentation, volume: Volume, numbers: Sequence[int], path: Path) -> NDArray[np.bool_]:
    """Return masks (slices, rows, columns, segments), in the order of the volume's slices."""
    frames = [slice_.frame_number for slice_ in volume.slices if slice_.frame_number is not None]
    uids = [slice_.sop_instance_uid for slice_ in volume.slices]
    if frames and len(set(uids)) > 1:  # frames of one number in several objects would be taken for each other
        message = f"{path}: its series is {len(set(uids))} multi-frame objects, not one; save it as single slices"
        raise BadData("several-multi-frame-objects", message)
    try:
        if frames:
            pixels = segmentation.get_pixels_by_source_frame(
                uids[0], frames, numbers, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
            )
        else:
            pixels = segmentation.get_pixels_by_source_instance(
                uids, numbers, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
            )
    except _DAMAGES as error:
        raise BadData("unreadable-file", f"{path}: its frames cannot be decoded: {error}") from error
    if pixels.shape[:3] != volume.hu.shape:
        raise BadData("wrong-shape", f"{path}: masks of {pixels.shape[:3]}, the series has {volume.hu.shape}")
    return np.asarray(pixels >= 0.5)  # values of a fractional SEG are from 0 to 1


def segmentations(series: Sequence[SeriesHeader]) -> list[tuple[Path, str]]:
    """Return each SEG with the UID of the series it was drawn on: Hilum's own, then others, each from old to new.

    Raises
    ------
    BadData
        When a SEG does not name its series, the only possible corrections are of a class that Hilum does not read, or a
        segment of an unknown structure lies beside first labels, which it may correct.
    """
    found, unread = [], []
    first, unknown = set[str](), list[tuple[str, str]]()
    for image in (image for one in series for image in one.images):
        if image.sop_class_uid in SOP_CLASS_UIDS:
            ds = dcmread(image.path, stop_before_pixels=True)
            referred = nested(ds, "ReferencedSeriesSequence", "SeriesInstanceUID")
            if not referred:
                raise BadData("missing-reference", f"{image.path}: does not say which CT series it was drawn on")
            order = (not is_hilums(ds), _made_at(ds))
            found.append((order, image.path, str(referred)))
            if is_hilums(ds):
                first.add(str(referred))
            elif names := unknown_names(ds):
                unknown.append((str(referred), f"{image.path}: Hilum knows no structure called {names}"))
        elif image.modality in {"SEG", "RTSTRUCT"}:
            unread.append(image)
    is_corrected = any(is_foreign for (is_foreign, _), _, _ in found)
    if unread and not is_corrected:
        kind = UID(unread[0].sop_class_uid).name
        raise BadData("unread-correction", f"{unread[0].path}: Hilum does not read {kind}; save it as DICOM SEG")
    for message in (message for referred, message in unknown if referred in first):
        known = ", ".join(sorted(STRUCTURES))
        raise BadData(
            "unknown-structure", f"{message}, so that the first labels would stand; rename it ({known}), or remove it"
        )
    return [(path, referred) for _, path, referred in sorted(found)]


def read_seg_header(path: Path) -> Dataset | None:
    """Return the header of a SEG, or None if the file is something else."""
    try:
        kind = read_file_meta_info(path).get("MediaStorageSOPClassUID")
        return dcmread(path, stop_before_pixels=True) if kind in SOP_CLASS_UIDS else None
    except UNREADABLE:
        return None


def is_hilums(ds: Dataset) -> bool:
    """Whether Hilum made an object, so that nobody has corrected it.

    Times do not tell: a viewer may be in another time zone than the machine that made the first labels. Nor does
    Manufacturer alone: a viewer may copy it. But a viewer saves a new object with a new SOP Instance UID, and the UIDs
    that Hilum derives have a form of their own.
    """
    return ds.get("Manufacturer") == MANUFACTURER and is_derived(str(ds.get("SOPInstanceUID", "")))


def _made_at(ds: Dataset) -> datetime:
    """Return when an object was made; in UTC if it names no time zone, because OHIF writes UTC without saying so."""
    made = time_of(ds, "Content")
    if made is None:
        return datetime.min.replace(tzinfo=UTC)  # counts as the oldest
    return made if made.tzinfo else made.replace(tzinfo=UTC)
