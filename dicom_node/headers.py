"""Reading the headers of series, without pixels."""

from __future__ import annotations

import errno
import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from dicom_node.bounded import read_bounded
from dicom_node.errors import PassingFailure

CT_STORAGE = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})

UNREADABLE = (
    InvalidDicomError, BytesLengthException, EOFError, OSError, ValueError, TypeError, KeyError, IndexError,
    AttributeError, NotImplementedError, OverflowError, RecursionError, struct.error, zlib.error,
)  # fmt: skip
"""The exceptions that pydicom raises on files that are damaged or not DICOM.

NotImplementedError is among them because pydicom raises it for a VR that it does not know.
"""

TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"),
    *("ConvolutionKernel", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient", "NumberOfFrames"),
    *("PatientID", "IssuerOfPatientID", "StudyDate", "StudyTime"),
    *("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedurePriority"),
    "RescaleType",
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]

_NAMING_KERNEL = (
    "CTReconstructionSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)
"""Sequences in the functional groups of multi-frame CT that may name the kernel."""

NOT_HOUNSFIELD = ("OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
"""Defined terms of Rescale Type that name another quantity (PS3.3 C.11.1.1.2).

Not listed: US (unspecified) and misspelt names of the Hounsfield unit, which real scanners write for plain HU.
"""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class InstanceHeader:
    """One image of a series, or a stack of frames; positions and orientation in mm and cosines (LPS)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    modality: str
    image_type: tuple[str, ...]
    kernel: str
    thickness_mm: float | None
    orientation: tuple[float, ...] | None
    positions: tuple[Vector, ...]
    frames: int
    words: str
    """Body part, descriptions and protocol name in upper case, to tell a chest from other parts."""
    body_part: str
    urgent: bool
    """Requested Procedure Priority (0040,1003) says STAT or HIGH."""
    path: Path
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    taken_at: str = ""
    """Study Date and Time as one string that sorts by time; empty without a date."""
    series_description: str = ""
    protocol_name: str = ""
    rescale_type: str = ""


@dataclass(frozen=True)
class SeriesHeader:
    """The headers of a series, as selection needs them."""

    series_instance_uid: str
    images: tuple[InstanceHeader, ...]
    unreadable: int = 0
    """How many files were read and are damaged or not DICOM."""
    unread: int = 0
    """How many files the storage could not read, so that their content is unknown."""

    @property
    def stored(self) -> int:
        """How many files there are."""
        return len(self.images) + self.unreadable + self.unread

    @property
    def ct_images(self) -> tuple[InstanceHeader, ...]:
        """The images of a CT storage class."""
        return tuple(image for image in self.images if image.sop_class_uid in CT_STORAGE)

    @property
    def slices(self) -> int:
        """How many slices or frames there are."""
        return sum(image.frames for image in self.ct_images)

    def most_common(self, attribute: str) -> object:
        """Return the value that most CT images share; some of the images may be localizers."""
        counts = Counter(getattr(image, attribute) for image in self.ct_images)
        return counts.most_common(1)[0][0] if counts else None


def read_header(path: Path) -> InstanceHeader | None:
    """Return the header of a file, or None if its content cannot be read as DICOM.

    Raises
    ------
    PassingFailure
        The file itself cannot be read, for instance because the storage is not mounted.
    """
    try:
        ds = read_bounded(path, stop_before_pixels=True, force=True, specific_tags=TAGS)
        return parse_header(ds, path) if "SOPClassUID" in ds else None
    except UNREADABLE as error:
        require_storage(error)
        return None


def read_text(path: Path, keyword: str) -> str:
    """Return the text of one attribute of a stored object; empty if it has none, or cannot be read."""
    try:
        ds = read_bounded(path, stop_before_pixels=True, specific_tags=[keyword])
        return str(ds.get(keyword) or "").strip()
    except UNREADABLE:
        return ""


def require_storage(error: Exception) -> None:
    """Raise PassingFailure if an error means that the file itself could not be read, not that it is no DICOM."""
    if why := why_unread(error):
        raise PassingFailure(
            "storage-unreadable",
            f"a stored file cannot be read ({why}); see that the storage is mounted and readable, or send it again",
        ) from error


def why_unread(error: Exception) -> str:
    """Return why a file itself could not be read; empty if it could be read and is only no DICOM."""
    # pydicom raises its own OSErrors, without a number; a damaged length leads to an invalid seek (EINVAL).
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return str(error.strerror)
    return ""


def parse_header(ds: Dataset, path: Path) -> InstanceHeader:
    """Return the header of a data set, for single-frame and multi-frame images (with functional groups) alike."""
    groups = [*ds.get("SharedFunctionalGroupsSequence", []), *ds.get("PerFrameFunctionalGroupsSequence", [])]
    orientations = [
        o for o in (numbers(nested(g, "PlaneOrientationSequence", "ImageOrientationPatient")) for g in groups) if o
    ]
    positions = [p for p in (numbers(nested(g, "PlanePositionSequence", "ImagePositionPatient")) for g in groups) if p]
    thickness = [t for t in (nested(g, "PixelMeasuresSequence", "SliceThickness") for g in groups) if t]
    rescale_types = [nested(g, "PixelValueTransformationSequence", "RescaleType") for g in groups]
    position = numbers(ds.get("ImagePositionPatient"))
    part, study, series, protocol = (
        str(ds.get(keyword, "") or "").strip().upper()
        for keyword in ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")
    )
    return InstanceHeader(
        study_instance_uid=str(ds.get("StudyInstanceUID", "")),
        series_instance_uid=str(ds.get("SeriesInstanceUID", "")),
        sop_class_uid=str(ds.SOPClassUID),
        modality=printable(ds.get("Modality", "")),
        image_type=tuple(str(v).strip().upper() for v in as_list(ds.get("ImageType"))),
        kernel=kernel_of(ds).upper(),
        thickness_mm=number(ds.get("SliceThickness", thickness[0] if thickness else None)),
        orientation=numbers(ds.get("ImageOrientationPatient")) or (orientations[0] if orientations else None),
        positions=tuple((p[0], p[1], p[2]) for p in ([position] if position else positions) if p and len(p) == 3),
        frames=int(ds.get("NumberOfFrames", None) or 1),
        words=f"{part} {study} {series} {protocol}",
        body_part=part,
        urgent=str(ds.get("RequestedProcedurePriority", "")).upper() in ("STAT", "HIGH"),
        path=path,
        patient_id=str(ds.get("PatientID", "") or "").strip(),
        issuer_of_patient_id=str(ds.get("IssuerOfPatientID", "") or "").strip(),
        taken_at=taken_at(ds),
        series_description=series,
        protocol_name=protocol,
        rescale_type=printable(ds.get("RescaleType") or next(filter(None, rescale_types), "")),
    )


def kernel_of(ds: Dataset, frame: int = 0) -> str:
    """Return the kernel that a frame (from 0) was reconstructed with, its values joined by spaces; empty if unnamed.

    Single slices name it in their header (PS3.3 C.8.2.1). Enhanced CT names it in a functional group (C.8.15.3); the
    frame's own group goes before the shared one. Legacy Converted CT, which has no such group, names it among the
    unassigned converted attributes (A.70).
    """
    own, shared = ds.get("PerFrameFunctionalGroupsSequence") or (), ds.get("SharedFunctionalGroupsSequence") or ()
    groups = (*own[frame : frame + 1], *shared[:1])
    named = [nested(group, sequence, "ConvolutionKernel") for group in groups for sequence in _NAMING_KERNEL]
    kernel = next((value for value in (*named, ds.get("ConvolutionKernel")) if value), None)
    return " ".join(printable(value) for value in as_list(kernel))


def taken_at(ds: Dataset) -> str:
    """Return Study Date and Time as one string that sorts by time; empty without a date."""
    date, time = (str(ds.get(keyword, "") or "").strip() for keyword in ("StudyDate", "StudyTime"))
    return date and f"{date}{time}"


def read_series(
    paths: Iterable[Path], received_in: Mapping[Path, str] = MappingProxyType({}), *, may_lack: bool = False
) -> list[SeriesHeader]:
    """Return the series whose images are in these files.

    Parameters
    ----------
    received_in : mapping
        The Series Instance UIDs with which files were received. Files that cannot be read count for that series, or
        for an empty UID if they are not in the mapping.
    may_lack : bool
        Count files that are gone, or that the disk cannot read, as unread instead of raising PassingFailure.

    Raises
    ------
    PassingFailure
        A file itself cannot be read, unless ``may_lack``.
    """
    by_uid: dict[str, list[InstanceHeader]] = {}
    unreadable: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    for path in paths:
        try:
            header = read_header(path)
        except PassingFailure:
            if not may_lack:
                raise
            unread[received_in.get(path, "")] += 1
            continue
        if header is None:
            unreadable[received_in.get(path, "")] += 1
        else:
            by_uid.setdefault(header.series_instance_uid, []).append(header)
    return [
        SeriesHeader(uid, tuple(by_uid.get(uid, ())), unreadable[uid], unread[uid])
        for uid in {**by_uid, **unreadable, **unread}
    ]


def what_is_unread(*found: SeriesHeader) -> str:
    """Return a sentence on how many files of these series the storage could not read; empty if it read them all."""
    unread, stored = sum(series.unread for series in found), sum(series.stored for series in found)
    return f"{unread} of {stored} stored files could not be read" if unread else ""


def nested(group: Dataset, sequence: str, keyword: str) -> object:
    """Return a value of the first item of a sequence in a functional group; None without an item."""
    items = group.get(sequence) or []
    return items[0].get(keyword) if items else None


def printable(value: object) -> str:
    """Return a value's text without characters that a record or a log cannot hold, such as NUL."""
    return "".join(letter for letter in str(value) if letter.isprintable())


def as_list(value: object) -> Sequence[object]:
    """Return a DICOM value as a list, whatever its multiplicity."""
    if value is None or value == "":
        return []
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def number(value: object) -> float | None:
    """Return a decimal string as a finite number, or None."""
    try:
        parsed = float(str(value))
    except ValueError:
        return None
    return parsed if math.isfinite(parsed) else None


def length(value: object) -> float | None:
    """Return a decimal string as a length, or None if it is no number above 0."""
    found = number(value)
    return found if found and found > 0 else None


def numbers(value: object) -> tuple[float, ...] | None:
    """Return decimal strings as finite numbers, or None if there is none or one is not a finite number."""
    parsed = [number(v) for v in as_list(value)]
    return tuple(v for v in parsed if v is not None) if parsed and None not in parsed else None
