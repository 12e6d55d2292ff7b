"""The images a result was made of: what its objects carry over, refer to and lie on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.deflated import read_bounded
from dicom_node.errors import NotAnalysable, NotForHilum
from worker.reports.identity import clean, identity_of
from worker.reports.uids import derive_uid

_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PLANE = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
)
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OF_EACH_IMAGE = (*_REFERENCE, *_PLANE, "InstanceNumber", "NumberOfFrames", *_FUNCTIONAL_GROUPS)
LOSSY_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_OF_THE_SERIES = (
    "SeriesNumber",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    *LOSSY_COMPRESSION,
)


@dataclass(frozen=True)
class Source:
    """The images a result was made of, fit to make DICOM objects from.

    Parameters
    ----------
    identity : Dataset
        Patient and study, in UTF-8, malformed values blanked.
    images : tuple of Dataset
        The images' references and geometry, in the order of the volume; a single one where the frames stand
        in one object. The first carries identity and equipment too, where highdicom looks for them.
    """

    identity: Dataset
    images: tuple[Dataset, ...]

    @property
    def first(self) -> Dataset:
        """The image that speaks for all in what they share."""
        return self.images[0]

    @property
    def is_multi_frame(self) -> bool:
        """Whether the frames stand in one object."""
        return "NumberOfFrames" in self.first


def read_source(paths: Sequence[Path], frame_of_reference_uid: str | None = None) -> Source:
    """Read what results carry over from the images at these paths.

    Parameters
    ----------
    paths : sequence of Path
        The images' files, in the order of the volume; a path that comes again counts once.
    frame_of_reference_uid : str or None
        The volume's; None where there is no volume, and then no geometry is read either. Where the source
        names none, its series gets one, since a segmentation cannot do without (PS3.3 A.51.3).

    Raises
    ------
    NotForHilum
        None of the files can be read as a DICOM image that a report could refer to.
    NotAnalysable
        A volume's frames stand in several objects, which a segmentation made by highdicom cannot lie on, or
        not all of its slices have a UID of their own.
    """
    headers: list[Dataset] = []
    for path in dict.fromkeys(paths):
        header = _read_header(path, whole=not headers)
        if header is not None:
            headers.append(header)
    if not headers:
        message = "expected DICOM images with UIDs of study, series and image, got none: nothing can refer to them"
        raise NotForHilum("no-uids", message)
    if frame_of_reference_uid is not None:
        _require_reference_of_each(len(set(paths)), headers)
    images = tuple(_image(header, headers[0], frame_of_reference_uid) for header in headers)
    identity = identity_of(headers[0])
    images[0].update(clean(headers[0], _OF_THE_SERIES))
    images[0].update(identity)
    images[0].add_new("PatientName", "PN", "")  # highdicom would quote an odd one in a warning; objects get it later
    return Source(identity, images)


def _require_reference_of_each(files: int, headers: Sequence[Dataset]) -> None:
    if files > 1 and "NumberOfFrames" in headers[0]:
        message = f"expected a multi-frame series as one object, got {files}: send it as single slices"
        raise NotAnalysable("several-multi-frame-objects", message)
    uids = {str(header.SOPInstanceUID) for header in headers}
    if len(uids) < files:
        message = f"expected a UID of its own for each of {files} slices, got {len(uids)}: correct them at the sender"
        raise NotAnalysable("shared-uids", message)


def _read_header(path: Path, *, whole: bool) -> Dataset | None:
    """Return the header, all of it or what each image needs; None where it is no DICOM image."""
    try:
        header = read_bounded(
            path, stop_before_pixels=True, force=True, specific_tags=None if whole else list(_OF_EACH_IMAGE)
        )
    except (InvalidDicomError, OSError, EOFError):
        return None
    return header if all(header.get(keyword) for keyword in _REFERENCE) else None


def _image(header: Dataset, first: Dataset, frame_of_reference_uid: str | None) -> Dataset:
    """Return an image's reference, and its geometry where the results lie on it.

    Orientation, spacing and thickness are the first image's: all were accepted as one volume, yet they may
    differ in the last digit, which highdicom refuses.
    """
    image = Dataset()
    for keyword in (*_REFERENCE, "InstanceNumber"):
        if keyword in header:
            image[keyword] = header[keyword]
    image.Modality = "CT"
    if frame_of_reference_uid is None:
        return image
    image.FrameOfReferenceUID = frame_of_reference_uid or derive_uid("frame-of-reference", str(first.SeriesInstanceUID))
    image["Rows"], image["Columns"] = header["Rows"], header["Columns"]
    if "NumberOfFrames" in header:
        _add_frames(image, header)
        return image
    image["ImagePositionPatient"] = header["ImagePositionPatient"]
    image["ImageOrientationPatient"] = first["ImageOrientationPatient"]
    image["PixelSpacing"] = first["PixelSpacing"]
    image.SliceThickness = first.get("SliceThickness")
    return image


def _add_frames(image: Dataset, header: Dataset) -> None:
    """Add the frames' planes as functional groups, whether the source shares them or not (PS3.3 C.7.6.16.2)."""
    shared = header.SharedFunctionalGroupsSequence[0]
    frames = header.PerFrameFunctionalGroupsSequence
    image.NumberOfFrames = header.NumberOfFrames
    image.SharedFunctionalGroupsSequence = [Dataset()]
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        group = shared if keyword in shared else frames[0]
        image.SharedFunctionalGroupsSequence[0][keyword] = group[keyword]
    image.PerFrameFunctionalGroupsSequence = [Dataset() for _ in frames]
    for plane, frame in zip(image.PerFrameFunctionalGroupsSequence, frames, strict=True):
        plane["PlanePositionSequence"] = frame["PlanePositionSequence"]
