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
from dicom_node.receive.part10 import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    LONGEST_HEADER_BYTES,
    file_meta,
    glance,
    identify,
)

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


@pytest.mark.parametrize("vr", [b"SQ", b"OB", b"UN"])
def test_a_data_set_that_would_fill_the_memory_before_its_series_is_refused(vr: bytes) -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    content = item * (LONGEST_HEADER_BYTES // len(item) + 1)
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    sequence = struct.pack("<HH2sxxL", 0x0008, 0x1140, vr, 0xFFFFFFFF) + content + end
    with pytest.raises(RejectedInput, match="cannot be read"):
        identify(BytesIO(plain_uids(sequence)), ExplicitVRLittleEndian)


def test_a_uid_that_would_fill_the_memory_is_refused_unread() -> None:
    uid = struct.pack("<HH2sxxL", 0x0008, 0x0018, b"UN", 2 * LONGEST_HEADER_BYTES) + b"1" * 2 * LONGEST_HEADER_BYTES
    read = Counting(plain_uids(uid))
    with pytest.raises(RejectedInput, match="cannot be read"):
        identify(read, ExplicitVRLittleEndian)
    assert read.bytes_read < LONGEST_HEADER_BYTES


def test_a_large_element_before_the_series_is_passed_over() -> None:
    private = struct.pack("<HH2sxxL", 0x0009, 0x1001, b"OB", 2 * LONGEST_HEADER_BYTES) + bytes(2 * LONGEST_HEADER_BYTES)
    assert identify(BytesIO(plain_uids(private)), ExplicitVRLittleEndian) == ("1.2", "1.2.3", "1.3", "1.4")


def plain_uids(between: bytes) -> bytes:
    """Return a data set with its four UIDs, in Explicit VR Little Endian, with ``between`` after the first two."""
    uids = (
        (0x0008, 0x0016, b"1.2\0"),
        (0x0008, 0x0018, b"1.2.3\0"),
        (0x0020, 0x000D, b"1.3\0"),
        (0x0020, 0x000E, b"1.4\0"),
    )
    first, second, third, fourth = (struct.pack("<HH2sH", *tag, b"UI", len(uid)) + uid for *tag, uid in uids)
    return first + second + between + third + fourth


class Counting(BytesIO):
    """Counts the bytes that are read."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.bytes_read += len(found)
        return found


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
