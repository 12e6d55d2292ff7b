"""Encode data elements as bytes in Explicit VR Little Endian (PS3.5 7.1.2, 7.5), for parts that recur many times."""

from __future__ import annotations

import struct
from functools import cache

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag

_ITEM = b"\xfe\xff\x00\xe0"


def element(keyword: str, vr: str, value: bytes) -> bytes:
    """Return an element, padded to an even length; its VR must be one with a 2-byte length field."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return _tag(keyword) + vr.encode() + struct.pack("<H", len(value)) + value


def text(keyword: str, vr: str, value: str) -> bytes:
    """Return an element of text in the default character repertoire, such as a UID, code or number."""
    return element(keyword, vr, value.encode("latin-1"))


def sequence(keyword: str, *items: bytes) -> bytes:
    """Return a sequence of items; each item is the bytes of its elements in ascending order of tags."""
    value = _joined(items)
    return _tag(keyword) + b"SQ\0\0" + struct.pack("<I", len(value)) + value


def code(coded: Code) -> bytes:
    """Return the elements of a code (PS3.3 8.8)."""
    return (
        text("CodeValue", "SH", coded.value)
        + text("CodingSchemeDesignator", "SH", coded.scheme_designator)
        + text("CodeMeaning", "LO", coded.meaning)
    )


def add_sequence(ds: Dataset, keyword: str, *items: bytes) -> None:
    """Add a sequence of such items to a data set; pydicom decodes it only when it is accessed."""
    tag, value = Tag(keyword), _joined(items)
    ds[tag] = RawDataElement(tag, "SQ", len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def _joined(items: tuple[bytes, ...]) -> bytes:
    return b"".join(_ITEM + struct.pack("<I", len(item)) + item for item in items)


@cache
def _tag(keyword: str) -> bytes:
    tag = Tag(keyword)
    return struct.pack("<HH", tag.group, tag.element)
