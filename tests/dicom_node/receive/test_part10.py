"""The preamble and file meta information of a stored file."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.errors import RejectedInput
from dicom_node.receive.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, file_meta, glance, identify

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
    assert found == ("1.2", "1.2.3", "1.3", "1.4")


def test_a_data_set_without_a_study_is_refused() -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.3", "1.4"
    data = encode(ds, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    with pytest.raises(RejectedInput, match="StudyInstanceUID"):
        identify(BytesIO(data), ImplicitVRLittleEndian)


@pytest.mark.parametrize("implicit", [True, False])
@given(uids=st.tuples(uids, uids, uids, uids), private=st.binary(max_size=20))
def test_a_glance_sees_what_identify_reads(implicit: bool, uids: tuple[str, str, str, str], private: bytes) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = uids
    ds.ReferencedStudySequence = [Dataset()]
    ds.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.9"
    ds.add_new(0x00091001, "OB", private + bytes(len(private) % 2))
    data = encode(ds, is_implicit_vr=implicit, is_little_endian=True)
    assert data is not None
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    assert glance(data, syntax) == identify(BytesIO(data), syntax) == uids


@given(cut=st.integers(min_value=0))
def test_a_glance_at_too_little_says_nothing(cut: int) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.3", "1.3", "1.42.77.13"
    data = encode(ds, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    assert glance(data[: cut % len(data)], ImplicitVRLittleEndian) is None


@pytest.mark.parametrize("uid", [b"1\\2 ", b"1.2 3 ", b"", b"1" * 66], ids=["two", "space", "empty", "long"])
def test_a_glance_leaves_odd_uids_to_identify(uid: bytes) -> None:
    elements = {(8, 0x16): b"1.2\0", (8, 0x18): b"1.3\0", (0x20, 0xD): uid, (0x20, 0xE): b"1.4\0"}
    data = b"".join(struct.pack("<HHL", *tag, len(value)) + value for tag, value in elements.items())
    assert glance(data, ImplicitVRLittleEndian) is None


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_uid_that_is_cut_off_is_not_taken_for_another(cut: int) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.3", "1.3", "1.42.77.130"
    data = encode(ds, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    with pytest.raises(RejectedInput, match="cannot be read"):
        identify(BytesIO(data[:-cut]), ImplicitVRLittleEndian)
