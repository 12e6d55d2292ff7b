"""What stands at the beginning of a stored file."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.errors import RejectedInput
from dicom_node.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, file_meta, identify

uids = st.from_regex(r"[12]\.[1-9][0-9]{0,20}(\.[1-9][0-9]{0,15}){0,2}", fullmatch=True)
titles = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", min_size=1, max_size=16)


@given(sop_class=uids, sop=uids, syntax=uids, title=titles)
def test_file_meta_is_what_pydicom_writes(sop_class: str, sop: str, syntax: str, title: str) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(sop)
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = title
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    assert file_meta(sop_class, sop, syntax, title) == bytes(128) + b"DICM" + buffer.getvalue()


def test_a_data_set_is_read_no_further_than_its_series() -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2", "1.2.3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.3", "1.4"
    data = encode(ds, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    found = identify(BytesIO(data + b"\x28\x00\x10\x00 and then no DICOM at all"), ImplicitVRLittleEndian)
    assert [str(found[keyword].value) for keyword in ("SOPInstanceUID", "StudyInstanceUID")] == ["1.2.3", "1.3"]


def test_a_data_set_without_a_study_is_refused() -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.3", "1.4"
    data = encode(ds, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    with pytest.raises(RejectedInput, match="StudyInstanceUID"):
        identify(BytesIO(data), ImplicitVRLittleEndian)
