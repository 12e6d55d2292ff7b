"""What all objects of one result share: identity, equipment, time, and the key from which their UIDs derive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from io import BytesIO
from typing import TypedDict

import numpy as np
from highdicom.sr import CodedConcept, DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node import study
from dicom_node.study import MANUFACTURER
from worker.findings import Algorithm
from worker.reports import codes
from worker.reports.source import Source
from worker.reports.uids import derive_uid, device_uid
from worker.volume import Volume

MODEL = "Hilum"

_WITHOUT_BODY_PART = ("SR", "KO", "DOC")
"""Modalities of series that have no body part (PS3.3 C.17.1, C.17.6.1, C.24.1)."""


@dataclass(frozen=True)
class Kind:
    """A kind of result object; each kind gets its own series, numbered in a block of high numbers."""

    name: str
    series_number: int
    series_description: str

    def part(self, number: int, of: int) -> Kind:
        """Return the kind of one part, if the object has to be split into several; itself if there is only one part."""
        if of == 1:
            return self
        description = f"{self.series_description}, {number} of {of}"
        return Kind(f"{self.name}-{number}", self.series_number + 10 * number, description)


LUNGS = Kind("lungs", 90001, "Hilum lungs")
LEFT_LUNG = Kind("left-lung", 90002, "Hilum left lung")
RIGHT_LUNG = Kind("right-lung", 90003, "Hilum right lung")
INFECTION = Kind("infection", 90004, "Hilum infection")
REPORT = Kind(study.REPORT, 90005, "Hilum report")
KEY_IMAGE = Kind("key-image", 90006, "Hilum key image")
TREND = Kind("trend", 90008, "Hilum trend")
PAGE = Kind("page", 90009, "Hilum page")
REJECTION_NOTE = Kind(study.REJECTION_NOTE, 90007, "Hilum rejection note")


class ObjectArguments(TypedDict):
    """The arguments that the constructors of highdicom's objects have in common."""

    series_instance_uid: str
    series_number: int
    sop_instance_uid: str
    instance_number: int
    manufacturer: str
    manufacturer_model_name: str
    software_versions: str
    device_serial_number: str


@dataclass(frozen=True)
class ResultContext:
    """What all objects of one result share.

    Parameters
    ----------
    key : str
        The digest of everything the result was made from, by `result_key`.
    made_at : datetime
        When the result was made, with a time zone. The objects state it in their source's time zone.
    earlier : tuple of Dataset
        The headers of the objects of the result that this one replaces.
    """

    source: Source
    algorithm: Algorithm
    key: str
    made_at: datetime
    earlier: tuple[Dataset, ...] = ()

    def uid(self, kind: str, of: str) -> UID:
        """Return the UID of something that belongs to one kind of result object, such as its series."""
        return derive_uid(self.key, kind, of)

    def arguments(self, kind: Kind) -> ObjectArguments:
        """Return the arguments that the constructors of highdicom's objects have in common."""
        return ObjectArguments(
            series_instance_uid=self.uid(kind.name, "series"),
            series_number=kind.series_number,
            sop_instance_uid=self.uid(kind.name, "instance"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=version("hilum"),
            device_serial_number=self.algorithm.weights_sha256 or self.algorithm.version,
        )

    def begin(self, kind: Kind, sop_class_uid: str) -> Dataset:
        """Start an object that highdicom has no class for; `complete` later adds what all objects share."""
        arguments = self.arguments(kind)
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, arguments["sop_instance_uid"]
        ds.SeriesInstanceUID, ds.ConversionType = arguments["series_instance_uid"], "WSD"
        ds.SeriesNumber, ds.InstanceNumber = arguments["series_number"], arguments["instance_number"]
        ds.Manufacturer, ds.ManufacturerModelName = MANUFACTURER, MODEL
        ds.DeviceSerialNumber, ds.SoftwareVersions = arguments["device_serial_number"], arguments["software_versions"]
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return ds

    def complete(self, ds: Dataset, kind: Kind) -> None:
        """Add the attributes that highdicom does not: the full identity, dates and times, series, and the algorithm.

        Dates and times are given in the source's time zone, because Timezone Offset From UTC, taken over from the
        source, applies to all of them (PS3.3 C.12.1.1.8). If the source names no time zone, local time is used.
        """
        ds.update(self.source.identity)
        ds.SeriesDescription = kind.series_description
        body_part = self.source.first.get("BodyPartExamined")
        if body_part and ds.Modality not in _WITHOUT_BODY_PART:
            ds.BodyPartExamined = body_part
        made_at = self.made_at.astimezone(time_zone(self.source.identity))
        for event in ("InstanceCreation", "Content", "Series"):
            setattr(ds, f"{event}Date", made_at.strftime("%Y%m%d"))
            setattr(ds, f"{event}Time", made_at.strftime("%H%M%S"))
        ds.ContributingEquipmentSequence = [
            *ds.get("ContributingEquipmentSequence", []),
            contributing_equipment(self.algorithm),
        ]


def result_key(
    source: Source,
    algorithm: Algorithm,
    *,
    volume: Volume | None = None,
    settings: tuple[tuple[str, str], ...] = (),
    related: Sequence[str] = (),
) -> str:
    """Return the digest from which all UIDs of one result derive.

    It covers the input: the source's instances, identity, pixels, geometry and acquisition technique, the algorithm
    with its weights, the settings that change results, and Hilum's version. It does not cover the result's own bytes,
    which may differ in rounding. A study whose content was corrected without changing its UIDs thus gets new results.

    Parameters
    ----------
    volume : Volume or None
        None if the study was refused, so that there is no volume.
    settings : tuple of (str, str)
        The settings of the reports; those of the algorithm are part of the algorithm.
    related : sequence of str
        Other input: UIDs of the objects that the result replaces or is compared with; the reason of a refusal.
    """
    digest = hashlib.sha256()
    images = [[str(image.SOPInstanceUID), str(image.SeriesInstanceUID)] for image in source.images]
    headers = [_encoded(source.identity).hex(), _encoded(source.first).hex()]
    made_by = [version("hilum"), *astuple(algorithm), settings]
    read = _as_read(volume) if volume else []
    digest.update(json.dumps([images, headers, read, made_by, list(related)]).encode())
    if volume is not None:
        digest.update(np.ascontiguousarray(volume.hu).data)
    return digest.hexdigest()


def _encoded(header: Dataset) -> bytes:
    """Return a header as it would be written; some names with a backslash have no JSON."""
    file = BytesIO()
    dcmwrite(file, header, implicit_vr=False, little_endian=True)
    return file.getvalue()


def _as_read(volume: Volume) -> list[object]:
    """Return everything the digest covers of a volume, except its pixels."""
    slices = [
        [slice_.sop_instance_uid, slice_.frame_number, slice_.instance_number, slice_.position_mm]
        for slice_ in volume.slices
    ]
    geometry = volume.geometry
    lies = [geometry.shape, geometry.affine.tolist(), geometry.frame_of_reference_uid]
    return [slices, lies, volume.kernel, volume.has_contrast_agent, volume.slice_thickness_mm]


def source_image(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return the reference to an image that an object was made of (PS3.3 C.7.6.1.1.4, C.24.2)."""
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    source.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_IMAGE_FOR_PROCESSING)]
    return source


def contributing_equipment(algorithm: Algorithm) -> Dataset:
    """Return the algorithm as equipment that contributed to an object (PS3.3 C.12.1, IHE AIR)."""
    item = Dataset()
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = algorithm.name
    item.SoftwareVersions = algorithm.version
    item.DeviceUID = device_uid(algorithm)
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.PROCESSING_EQUIPMENT)]
    return item


def device_observer(algorithm: Algorithm) -> ObserverContext:
    """Return the observer: the algorithm, as a device (TID 1002)."""
    return ObserverContext(
        observer_type=CodedConcept.from_code(codes.DEVICE),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(algorithm),
            name=algorithm.name,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL,
        ),
    )


def algorithm_family(algorithm: Algorithm) -> Code:
    """Return the algorithm's family: AI if it has weights, otherwise morphological operations (on thresholds)."""
    return codes.ARTIFICIAL_INTELLIGENCE if algorithm.weights_sha256 else codes.MORPHOLOGICAL_OPERATIONS


def algorithm_parameters(algorithm: Algorithm) -> dict[str, str]:
    """Return what else distinguishes one run of the algorithm from another: the weights' hash and the settings."""
    weights = {"weights_sha256": algorithm.weights_sha256} if algorithm.weights_sha256 else {}
    return weights | dict(algorithm.settings)


def time_zone(identity: Dataset) -> timezone | None:
    """Return the time zone that a cleaned header names; None if it names none."""
    offset = identity.get("TimezoneOffsetFromUTC", "")
    if not offset:
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
