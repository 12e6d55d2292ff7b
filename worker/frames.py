"""What the header of a CT image says about each of its frames; images that cannot be used are rejected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.bounded import read_bounded
from dicom_node.dispatch.selection import holds_no_lung, speaks_of_chest
from dicom_node.errors import NotAnalysable, NotForHilum, RejectedInput
from dicom_node.headers import CT_STORAGE, NOT_HOUNSFIELD, UNREADABLE, kernel_of, length, number, require_storage
from worker.contrast import CONTRAST_TAGS, has_contrast_agent

LARGEST_MATRIX = 4096
"""Rows and columns of an image; scanners' have 512 to 2048."""

DESCRIPTIONS = ("StudyDescription", "SeriesDescription", "ProtocolName")

_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
}
"""The functional group macro that carries an attribute in a multi-frame CT (PS3.3 C.7.6.16.2, C.8.15.3)."""

HEADER_TAGS = [
    *DESCRIPTIONS,
    *_GROUP_OF,
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "PatientID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ImageType",
    "BodyPartExamined",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ConvolutionKernel",
    *CONTRAST_TAGS,
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]

_MORE_THAN_CHEST = ("BODY", "TORSO", "TRUNK")
"""Body parts that include the chest, beyond the words of `speaks_of_chest`; in a description they say too little."""


class NotASlice(NotForHilum):
    """An object that may be in a series of CT slices but is not a CT slice itself, such as a localizer."""


@dataclass(frozen=True)
class Frame:
    """One CT image: where it lies in the patient, how its stored values become HU, and which file has them.

    Parameters
    ----------
    number : int or None
        Frame number (from 1) in a multi-frame object.
    instance_number : int or None
        Instance Number of the object; None if it is missing or not a whole number.
    position : ndarray, shape (3,)
        Centre of the first voxel in patient coordinates (mm).
    orientation : ndarray, shape (2, 3)
        Direction cosines of a row (towards higher columns) and of a column (towards higher rows).
    spacing_mm : tuple of float
        Between rows, between columns.
    thickness_mm : float or None
        Slice Thickness; None if it is missing or not above 0.
    padding : tuple of int or None
        Lowest and highest stored value that mean "outside the field of view" (PS3.3 C.7.5.1.1.2).
    """

    path: Path
    transfer_syntax_uid: UID
    sop_class_uid: str
    sop_instance_uid: str
    patient_id: str
    series_instance_uid: str
    frame_of_reference_uid: str
    body_part: str
    number: int | None
    instance_number: int | None
    rows: int
    columns: int
    bits_stored: int
    is_signed: bool
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    kernel: str
    has_contrast_agent: bool


def names_chest(body_part: str) -> bool:
    """Whether a body part, as headers name it, is the chest or includes it."""
    part = body_part.upper()
    return speaks_of_chest(part) or any(word in part for word in _MORE_THAN_CHEST)


def refusal(body_part: str, code: str, message: str) -> RejectedInput:
    """Return the error for a CT that cannot be measured.

    If the header names another part of the body, it is NotForHilum, so that no report enters a study of the head;
    otherwise, also if no part is named, it is NotAnalysable. The name is often wrong, so here it decides only how a
    refusal is answered; only series selection rejects images because they are coded as a part without lungs.
    """
    if body_part and not names_chest(body_part):
        return NotForHilum(code, message)
    return NotAnalysable(code, message)


def read_frames(path: Path) -> list[Frame]:
    """Return the frames of one file from its header; pixel data is not read.

    Raises
    ------
    NotASlice
        Not a CT image, or a localizer, a perfusion image, or an image without pixels or in colour.
    NotAnalysable, NotForHilum
        A CT without what a measurement needs: position, spacing, or Hounsfield units; or a damaged header.
    PassingFailure
        The file itself cannot be read, which says nothing about the study.
    """
    try:
        ds = read_bounded(path, force=True, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
        _require_slice(ds)
        groups = ds.get("PerFrameFunctionalGroupsSequence")
        return [_frame(path, ds, index) for index in ([None] if groups is None else range(len(groups)))]
    except UNREADABLE as error:
        require_storage(error)
        raise NotAnalysable(
            "malformed-header",
            "expected a readable CT header, got malformed attributes; send the image again",
        ) from error


def _require_slice(ds: Dataset) -> None:
    sop_class = UID(ds.get("SOPClassUID", ""))
    if sop_class not in CT_STORAGE:
        raise NotASlice("not-ct", f"expected a CT image, got {sop_class.name or 'no SOP Class UID'}")
    for kind in ("LOCALIZER", "PERFUSION"):
        if kind in (ds.get("ImageType") or ()):
            raise NotASlice(kind.lower(), f"expected CT slices, got a {kind.lower()} image")
    missing = [k for k in ("Rows", "Columns", "BitsStored", "PixelRepresentation") if k not in ds]
    if missing:
        raise NotASlice("no-pixels", f"expected a CT image with pixels, got one without {', '.join(missing)}")
    if ds.get("SamplesPerPixel", 1) != 1:
        raise NotASlice("colour", f"expected 1 sample a pixel, got {ds.SamplesPerPixel} (a colour picture)")


def _frame(path: Path, ds: Dataset, index: int | None) -> Frame:
    body_part = _body_part(ds)

    def numbers(keyword: str, count: int, code: str) -> NDArray[np.float64]:
        value = _attribute(ds, keyword, index)
        found = np.atleast_1d(np.asarray([] if value is None else value, np.float64))
        if len(found) != count or not np.isfinite(found).all():
            finite = np.isfinite(found).sum()
            raise refusal(body_part, code, f"expected {keyword} with {count} finite value(s), got {finite}")
        return found

    rescale_type = _attribute(ds, "RescaleType", index)
    if rescale_type in NOT_HOUNSFIELD:
        message = f"expected values in Hounsfield units (HU), got Rescale Type {rescale_type}"
        raise refusal(body_part, "not-hounsfield", message)
    if max(ds.Rows, ds.Columns) > LARGEST_MATRIX:
        message = f"expected at most {LARGEST_MATRIX} rows and columns, got {ds.Rows} x {ds.Columns}"
        raise refusal(body_part, "large-matrix", message)
    row_mm, column_mm = numbers("PixelSpacing", 2, "no-pixel-spacing")
    return Frame(
        path=path,
        transfer_syntax_uid=_transfer_syntax(ds),
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.get("SOPInstanceUID", "")),
        patient_id=str(ds.get("PatientID") or "").strip(),
        series_instance_uid=str(ds.get("SeriesInstanceUID", "")),
        frame_of_reference_uid=str(ds.get("FrameOfReferenceUID", "")),
        body_part=body_part,
        number=None if index is None else index + 1,
        instance_number=_instance_number(ds),
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        bits_stored=int(ds.BitsStored),
        is_signed=ds.PixelRepresentation == 1,
        position=numbers("ImagePositionPatient", 3, "no-position"),
        orientation=numbers("ImageOrientationPatient", 6, "no-orientation").reshape(2, 3),
        spacing_mm=(float(row_mm), float(column_mm)),
        thickness_mm=length(_attribute(ds, "SliceThickness", index)),
        slope=float(numbers("RescaleSlope", 1, "no-rescale")[0]),
        intercept=float(numbers("RescaleIntercept", 1, "no-rescale")[0]),
        padding=_padding(ds),
        kernel=kernel_of(ds, index or 0),
        has_contrast_agent=has_contrast_agent(ds, index or 0),
    )


def _attribute(ds: Dataset, keyword: str, index: int | None) -> Any:
    """Return an attribute of a frame: its own, else the one shared by all, else None."""
    if index is None:
        return ds.get(keyword)
    for groups, i in (
        (ds.PerFrameFunctionalGroupsSequence, index),
        (ds.get("SharedFunctionalGroupsSequence"), 0),
    ):
        macro = groups[i].get(_GROUP_OF[keyword]) if groups else None
        if macro and keyword in macro[0]:
            return macro[0][keyword].value
    return None


def _body_part(ds: Dataset) -> str:
    """Return the part of the body that the header names.

    Descriptions that name the chest are appended, unless the coded part is the chest, includes it, or holds no lung.
    """
    part = _coded_body_part(ds)
    described = " ".join(str(ds.get(keyword) or "") for keyword in DESCRIPTIONS).upper()
    if names_chest(part) or holds_no_lung(part) or not speaks_of_chest(described):
        return part
    return f"{part} {described}".strip()


def _coded_body_part(ds: Dataset) -> str:
    """Return Body Part Examined; if a multi-frame CT has none, the code meaning of its shared Anatomic Region."""
    shared = ds.get("SharedFunctionalGroupsSequence")
    if ds.get("BodyPartExamined") or not shared:
        return str(ds.get("BodyPartExamined") or "")
    anatomy = shared[0].get("FrameAnatomySequence")
    region = anatomy[0].get("AnatomicRegionSequence") if anatomy else None
    return str(region[0].get("CodeMeaning", "")) if region else ""


def _instance_number(ds: Dataset) -> int | None:
    value = number(ds.get("InstanceNumber"))
    return int(value) if value is not None and value.is_integer() else None


def _padding(ds: Dataset) -> tuple[int, int] | None:
    first = ds.get("PixelPaddingValue")
    if first is None:
        return None
    limit = ds.get("PixelPaddingRangeLimit")  # None also if the attribute is empty
    ends = sorted(_as_stored(ds, end) for end in (first, first if limit is None else limit))
    return ends[0], ends[1]


def _as_stored(ds: Dataset, value: int) -> int:
    """Return a padding value with the sign that stored pixels have: some writers give a signed value as VR US."""
    bits = int(ds.get("BitsAllocated", 16))
    unsigned = int(value) % (1 << bits)
    return unsigned - (1 << bits) if ds.PixelRepresentation == 1 and unsigned >> (bits - 1) else unsigned


def _transfer_syntax(ds: Dataset) -> UID:
    """Return the Transfer Syntax UID; for a file without file meta information, the encoding in which it was parsed."""
    if uid := ds.file_meta.get("TransferSyntaxUID"):
        return UID(uid)
    is_implicit, is_little_endian = ds.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
