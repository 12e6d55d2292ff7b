"""The beginning of a file: write its meta information, and read the UIDs that identify its instance."""

from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO
from typing import BinaryIO, NamedTuple, cast

from pydicom.datadict import dictionary_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_node.bounded import Bounded
from dicom_node.errors import RejectedInput
from dicom_node.headers import UNREADABLE

IMPLEMENTATION_CLASS_UID = UID("2.25.197482354617463829405172039485761203948")
IMPLEMENTATION_VERSION_NAME = "HILUM_0.1"

LAST_IDENTIFYING_TAG = 0x0020000E
IDENTIFYING_TAGS = [BaseTag(tag) for tag in (0x00080016, 0x00080018, 0x0020000D, LAST_IDENTIFYING_TAG)]
LONGEST_HEADER_BYTES = 2**20
"""How much is read up to the Series Instance UID. pydicom builds sequences of undefined length even if they are not
asked for, in up to 75 times their size, and other elements may claim 4 GB."""
LONGEST_UID = 64
PLAIN_UID = re.compile(rb"([0-9.]{1,64})\0?")


class Identity(NamedTuple):
    """The UIDs that identify an instance."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


def file_meta(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_application_entity_title: str
) -> bytes:
    """Return preamble and file meta information (PS3.10 7.1), in Explicit VR Little Endian.

    pydicom's writer makes the same bytes at a tenth of the speed, and this runs for every instance.
    """
    elements = b"".join(
        (
            struct.pack("<HH2s2xL2s", 0x0002, 0x0001, b"OB", 2, b"\x00\x01"),
            short_element(0x0002, b"UI", sop_class_uid),
            short_element(0x0003, b"UI", sop_instance_uid),
            short_element(0x0010, b"UI", transfer_syntax_uid),
            short_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            short_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            short_element(0x0016, b"AE", source_application_entity_title),
        )
    )
    group_length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(elements))
    return bytes(128) + b"DICM" + group_length + elements


def short_element(element: int, vr: bytes, value: str) -> bytes:
    """Encode an element of group 0002 with a 16-bit length; pad its value to an even length (PS3.5 6.2, 7.1.2)."""
    encoded = value.encode("latin-1", "replace")
    if len(encoded) % 2:
        encoded += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 0x0002, element, vr, len(encoded)) + encoded


def glance(beginning: bytes, transfer_syntax: UID) -> Identity | None:
    """Return the UIDs of an instance if the first bytes of its data set hold them in plain form, else None.

    This takes a third of the time of `identify`. None does not mean that the instance is invalid: `identify` reads
    further, and tells an unusual data set from an invalid one.
    """
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        return None
    elements = data_element_generator(
        BytesIO(beginning),
        transfer_syntax.is_implicit_VR,
        transfer_syntax.is_little_endian,
        stop_when=beyond_identity,
        specific_tags=list(IDENTIFYING_TAGS),
    )
    try:
        whole = {e.tag: e.value for e in elements if isinstance(e, RawDataElement) and is_whole(e)}
    except UNREADABLE:
        return None
    uids = [
        match[1].decode("ascii") for tag in IDENTIFYING_TAGS if (match := PLAIN_UID.fullmatch(whole.get(tag) or b""))
    ]
    return Identity(*uids) if len(uids) == len(IDENTIFYING_TAGS) else None


def identify(data: BinaryIO, transfer_syntax: UID) -> Identity:
    """Return the UIDs of an instance; read no further than the Series Instance UID.

    Raises
    ------
    RejectedInput
        One of the UIDs is missing or malformed, or the data set cannot be read, or only by reading more than
        `LONGEST_HEADER_BYTES`.
    """
    try:
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            # Only the beginning is inflated, however large the whole data set would become.
            deflated = data.read(LONGEST_HEADER_BYTES)
            data = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, LONGEST_HEADER_BYTES))
        ds = read_dataset(
            cast(BinaryIO, Bounded(data, LONGEST_HEADER_BYTES)),
            is_implicit_VR=transfer_syntax.is_implicit_VR,
            is_little_endian=transfer_syntax.is_little_endian,
            stop_when=beyond_identity,
            specific_tags=list(IDENTIFYING_TAGS),
        )
        if not all(is_whole(ds.get_item(tag)) for tag in IDENTIFYING_TAGS if tag in ds):
            raise EOFError
        missing = [dictionary_keyword(tag) for tag in IDENTIFYING_TAGS if not (tag in ds and ds[tag].value)]
        malformed = not all(is_storable(element.value) for element in ds)
    except UNREADABLE as error:
        raise RejectedInput(
            "data-set-unreadable", f"expected a data set in {transfer_syntax.name}; it cannot be read"
        ) from error
    if missing:
        raise RejectedInput("uid-missing", f"expected {', '.join(missing)} in the data set; send it complete")
    if malformed:
        raise RejectedInput("uid-malformed", f"expected one UID of at most {LONGEST_UID} characters each (PS3.5 9.1)")
    return Identity(*(str(ds[tag].value) for tag in IDENTIFYING_TAGS))


def is_whole(element: object) -> bool:
    """Whether the value of an element has the length that its header states."""
    return not isinstance(element, RawDataElement) or len(element.value or b"") == element.length


def is_storable(uid: object) -> bool:
    """Whether the record can hold a value as a UID, valid or not: one string, printable, of at most 64 characters."""
    return isinstance(uid, str) and len(uid) <= LONGEST_UID and uid.isprintable()


def beyond_identity(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether a tag lies behind the last identifying one, so that reading can stop."""
    return int(tag) > LAST_IDENTIFYING_TAG
