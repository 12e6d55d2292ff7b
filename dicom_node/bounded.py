"""Files read with a bound: deflated ones (PS3.5 A.5) may grow to a thousand times their size, elements claim 4 GB."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import FileDataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

LONGEST_META_BYTES = 4096
PREAMBLE_BYTES = 132
GROUP_LENGTH_BYTES = 12
LONGEST_HEADER_BYTES = 64 * 2**20
"""The functional groups of a thousand frames take a few MB."""
SYNTAX = DeflatedExplicitVRLittleEndian.encode()


def read_bounded(path: Path, limit_bytes: int = LONGEST_HEADER_BYTES, **options: Any) -> FileDataset:
    """Return what `pydicom.dcmread` does with these options, if it reads no more than some bytes.

    Of a deflated file, it sees no more than so many bytes, inflated.

    Raises
    ------
    ValueError
        There is more to read, or it cannot be inflated.
    OSError, and what pydicom raises on damaged files
    """
    with path.open("rb") as file:
        inflated = inflate_beginning(file, limit_bytes)
        ds = dcmread(inflated or Bounded(file, limit_bytes), **options)
    ds.buffer = None  # else a copy of the data set would copy it
    if inflated:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds


class Bounded:
    """A file of which no more than some bytes are read, wherever they lie; more raises a ValueError.

    Any element may claim 4 GB, and a few wanted ones together take all memory. As attributes, not methods: pydicom
    calls them several times an element.
    """

    def __init__(self, file: BinaryIO, limit_bytes: int) -> None:
        read, left_bytes = file.read, limit_bytes

        def read_bounded(size: int = -1, /) -> bytes:
            nonlocal left_bytes
            left_bytes -= size
            if size < 0 or left_bytes < 0:
                raise ValueError(f"more than {limit_bytes} bytes to read")
            return read(size)

        self.read = read_bounded
        self.seek = file.seek
        self.tell = file.tell


def inflate_beginning(file: BinaryIO, limit_bytes: int) -> BytesIO | None:
    """Return the beginning of a deflated file, inflated; of any other None, and the file stands at its beginning."""
    beginning = file.read(LONGEST_META_BYTES)
    file.seek(0)
    if SYNTAX not in beginning:
        return None
    meta = read_file_meta_info(file.name)
    if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return None
    file.seek(PREAMBLE_BYTES + GROUP_LENGTH_BYTES + meta.FileMetaInformationGroupLength)
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(limit_bytes), limit_bytes)
    except zlib.error:
        raise ValueError("a deflated data set that cannot be inflated") from None
    syntax = ExplicitVRLittleEndian.encode() + b"\0"
    group = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    head = b"\x02\x00\x00\x00UL\x04\x00" + len(group).to_bytes(4, "little") + group
    return BytesIO(bytes(PREAMBLE_BYTES - 4) + b"DICM" + head + inflated)
