"""The source images of a result: the attributes and references that its objects take over from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from dicom_node.bounded import read_bounded
from dicom_node.errors import HilumError, NotAnalysable, NotForHilum, PassingFailure
from dicom_node.headers import UNREADABLE, length, require_storage
from worker.reports.identity import clean, identity_of
from worker.reports.uids import derive_uid
from worker.volume import Volume

_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
LOSSY_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
ALWAYS_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})
"""Transfer syntaxes that only lossy images have."""

_OF_THE_SERIES = (
    "SeriesNumber",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "BurnedInAnnotation",
    *LOSSY_COMPRESSION,
)


@dataclass(frozen=True)
class Source:
    """The source images of a result, in the form that new DICOM objects are made from.

    Parameters
    ----------
    identity : Dataset
        Patient and study attributes, in UTF-8, malformed values blanked.
    images : tuple of Dataset
        The UIDs of each image, in the order of the volume, or by SOP Instance UID if there is none; a single item for
        a multi-frame object. The first item also has identity and equipment, because highdicom reads them there, and,
        if there is a volume, the plane attributes of its first slice.
    """

    identity: Dataset
    images: tuple[Dataset, ...]

    @property
    def first(self) -> Dataset:
        """The image whose attributes are used for all that the images share."""
        return self.images[0]


def source_of(volume: Volume) -> Source:
    """Return the source that results of a volume are made from.

    The first slice's header is read again, and further ones if it has no Patient ID. If it names no frame of reference,
    a UID is derived for the series, because a segmentation must have one (PS3.3 A.51.3).

    Raises
    ------
    NotForHilum
        The first image is unreadable or lacks UIDs, so a report could not refer to it.
    NotAnalysable
        The frames are spread over several multi-frame objects, which one segmentation cannot refer to, or some slices
        share a SOP Instance UID or have none.
    PassingFailure
        The storage fails to read the first image.
    """
    header = _read_header(volume.slices[0].path)
    if header is None:
        raise _nothing_to_refer_to()
    of_each_file = list({slice_.path: slice_ for slice_ in volume.slices}.values())
    if len(of_each_file) > 1 and of_each_file[0].frame_number is not None:
        message = f"expected a multi-frame series as one object, got {len(of_each_file)}: send it as single slices"
        raise NotAnalysable("several-multi-frame-objects", message)
    uids = {slice_.sop_instance_uid for slice_ in of_each_file} - {""}
    if len(uids) < len(of_each_file):
        expected = f"expected a UID of its own for each of {len(of_each_file)} slices"
        raise NotAnalysable("shared-uids", f"{expected}, got {len(uids)}: correct them at the sender")
    images = [_image(header, slice_.sop_class_uid, slice_.sop_instance_uid) for slice_ in of_each_file]
    images[0].update(_first_plane(header, volume))
    return _source(header, images, [slice_.path for slice_ in of_each_file])


def read_source(paths: Sequence[Path]) -> Source:
    """Return the source that a result is made from if there is no volume, from the images at these paths.

    The images are ordered by SOP Instance UID, whatever the order of the files. The header of the first image that
    can be read completely is used for all; the identity is that of the first with a Patient ID.

    Raises
    ------
    NotForHilum
        None of the files can be read as a DICOM image that a report could refer to.
    PassingFailure
        None can be read completely, and for at least one the storage is the reason.
    """
    found: list[tuple[str, Path, Dataset]] = []
    why: HilumError = _nothing_to_refer_to()
    for path in dict.fromkeys(paths):
        try:
            reference = _read_header(path, *_REFERENCE)
        except PassingFailure as error:
            why = error
            continue
        if reference is not None:
            found.append((str(reference.SOPInstanceUID), path, reference))
    found.sort(key=lambda item: item[0])
    for _, path, _ in found:
        try:
            header = _read_header(path)
        except PassingFailure as error:
            why = error
            continue
        if header is not None:
            images = [_image(one, one.SOPClassUID, uid) for uid, _, one in found]
            return _source(header, images, [path for _, path, _ in found])
    raise why


def _nothing_to_refer_to() -> NotForHilum:
    message = "expected DICOM images with UIDs of study, series and image, got none: nothing can refer to them"
    return NotForHilum("no-uids", message)


def _read_header(path: Path, *keywords: str) -> Dataset | None:
    """Return these attributes of the header, or by default the whole header; None if it is no usable DICOM image.

    Raises
    ------
    PassingFailure
        The storage fails to read the file, so nothing is known about the study.
    """
    try:
        header = read_bounded(path, stop_before_pixels=True, force=True, specific_tags=list(keywords) or None)
    except UNREADABLE as error:
        require_storage(error)
        return None
    is_one = (isinstance(uid := header.get(keyword), str) and uid for keyword in _REFERENCE)
    return header if all(is_one) else None  # a UID with several values cannot be referred to


def _image(header: Dataset, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return the reference to an image of the header's series."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = sop_class_uid, sop_instance_uid
    image["StudyInstanceUID"], image["SeriesInstanceUID"] = header["StudyInstanceUID"], header["SeriesInstanceUID"]
    return image


def _first_plane(header: Dataset, volume: Volume) -> Dataset:
    """Return the plane attributes of the volume's first slice, as in the header of a single-frame image.

    Orientation, spacing and thickness are the first slice's; those of other slices may differ in the last digit,
    although all were accepted as one volume. In a multi-frame object they are in the per-frame or the shared
    functional groups (PS3.3 C.7.6.16.2). A thickness (mm) that is no number above 0 is left empty, because nothing
    is measured with it.
    """
    plane = Dataset()
    orientation = measures = header
    if "PerFrameFunctionalGroupsSequence" in header:
        shared = header.get("SharedFunctionalGroupsSequence") or []
        groups = [header.PerFrameFunctionalGroupsSequence[0], *shared[:1]]
        orientation, measures = (
            next(group[keyword].value[0] for group in groups if group.get(keyword))
            for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence")
        )
    plane["ImageOrientationPatient"] = orientation["ImageOrientationPatient"]
    plane["PixelSpacing"] = measures["PixelSpacing"]
    plane.SliceThickness = length(measures.get("SliceThickness"))
    plane.ImagePositionPatient = list(volume.slices[0].position_mm)
    _, plane.Rows, plane.Columns = volume.geometry.shape
    own = volume.geometry.frame_of_reference_uid
    plane.FrameOfReferenceUID = own or derive_uid("frame-of-reference", str(header.SeriesInstanceUID))
    return plane


def _state_compression(image: Dataset, transfer_syntax_uid: str) -> None:
    """Correct the lossy compression attributes of an image that is stored in a transfer syntax.

    Empty or invalid ones are removed; in results they may be absent, not empty (Type 1, 1C). An image in a lossy syntax
    is lossy whatever its header says.
    """
    if transfer_syntax_uid in ALWAYS_LOSSY:
        image.LossyImageCompression = "01"
    is_told = image.get("LossyImageCompression") in ("00", "01")
    for keyword in LOSSY_COMPRESSION:
        if keyword in image and not (is_told and image[keyword].value):
            del image[keyword]


def _identified(header: Dataset, paths: Sequence[Path]) -> Dataset:
    """Return the header of the first of these images that has a Patient ID, or this header if it has one or none has.

    Images without a Patient ID are accepted among others, and a result without it would not be found.
    """
    for path in () if _has_patient_id(header) else paths:
        try:
            other = _read_header(path)
        except PassingFailure:
            continue
        if other is not None and _has_patient_id(other):
            return other
    return header


def _has_patient_id(header: Dataset) -> bool:
    """Whether a header has a Patient ID; asked of a copy, because pydicom decodes in place what it is asked for."""
    return bool(clean(header, ["PatientID"]).get("PatientID"))


def _source(header: Dataset, images: Sequence[Dataset], paths: Sequence[Path]) -> Source:
    identity = identity_of(_identified(header, paths))
    images[0].Modality = "CT"
    images[0].update(clean(header, _OF_THE_SERIES))
    _state_compression(images[0], str(header.file_meta.get("TransferSyntaxUID", "")))
    images[0].update(identity)
    images[0].add_new("PatientName", "PN", "")  # highdicom would quote an odd name in a warning; `complete` adds it
    return Source(identity, tuple(images))
