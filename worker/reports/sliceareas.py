"""The infected area of each slice, encoded directly as the bytes of the report's file.

highdicom builds an area from seven data sets and walks each of them several times, which takes 3 ms a slice. The areas
differ only in a value and a reference.
"""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset

from worker.findings import Findings
from worker.reports import codes
from worker.reports.encoding import add_sequence, code, element, sequence, text
from worker.volume import SourceSlice, Volume

SLICE_AREAS = "Infected area of each slice"
"""Tracking identifier of the report's last group."""

_UTF_8 = convert_encodings("ISO_IR 192")
_UNITS = sequence("MeasurementUnitsCodeSequence", code(codes.SQUARE_MILLIMETER))


def add_slice_areas(report: Dataset, volume: Volume, findings: Findings) -> None:
    """Add to the report's last group the infected area (mm2) of every slice with infection, each with its slice."""
    measurements = report.ContentSequence[-1]
    group = measurements.ContentSequence[-1]
    areas_mm2 = findings.areas.infection_mm2
    areas = [_area(volume.slices[index], round(float(areas_mm2[index]), 1)) for index in np.flatnonzero(areas_mm2)]
    add_sequence(group, "ContentSequence", *map(_encoded, group.ContentSequence), *areas)
    _keep_as_encoded(report, measurements, group)


def _area(where: SourceSlice, area_mm2: float) -> bytes:
    """Return a NUM item of TID 1419 with its source image as its child item (PS3.3 C.17.3, C.18.1)."""
    frame = text("ReferencedFrameNumber", "IS", str(where.frame_number)) if where.frame_number is not None else b""
    image = (
        sequence(
            "ReferencedSOPSequence",
            text("ReferencedSOPClassUID", "UI", where.sop_class_uid)
            + text("ReferencedSOPInstanceUID", "UI", where.sop_instance_uid)
            + frame,
        )
        + text("RelationshipType", "CS", "INFERRED FROM")
        + text("ValueType", "CS", "IMAGE")
        + sequence("ConceptNameCodeSequence", code(codes.SOURCE_OF_MEASUREMENT))
    )
    value = (
        _UNITS
        + element("FloatingPointValue", "FD", struct.pack("<d", area_mm2))
        + text("NumericValue", "DS", str(area_mm2))
    )
    return (
        text("RelationshipType", "CS", "CONTAINS")
        + text("ValueType", "CS", "NUM")
        + sequence("ConceptNameCodeSequence", code(codes.AREA))
        + sequence("MeasuredValueSequence", value)
        + sequence("ContentSequence", image)
    )


def _encoded(item: Dataset) -> bytes:
    written = BytesIO()
    stream = DicomIO(written)
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, item, _UTF_8)
    return written.getvalue()


def _keep_as_encoded(report: Dataset, *containers: Dataset) -> None:
    """Mark data sets as read from a file in this encoding, so that pydicom writes their encoded parts unchanged."""
    report.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=_UTF_8)
    for container in containers:  # items have no Specific Character Set of their own
        container.set_original_encoding(
            is_implicit_vr=False, is_little_endian=True, character_encoding=default_encoding
        )
