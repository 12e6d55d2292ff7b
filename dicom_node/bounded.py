"""Reading files with a limit: deflated ones (PS3.5 A.5) may inflate a thousandfold, and elements may claim 4 GB."""

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
LONGEST_HEADER_BYTES = 16 * 2**20
"""The functional groups of a thousand frames take a few MB. pydicom may take 75 times as much memory as small items."""
SYNTAX = DeflatedExplicitVRLittleEndian.encode()


def read_bounded(path: Path, limit_bytes: int = LONGEST_HEADER_BYTES, **options: Any) -> FileDataset:
    """Return the result of `pydicom.dcmread` with these options, if it reads at most ``limit_bytes``.

    A deflated file is cut instead: `pydicom.dcmread` sees at most its first ``limit_bytes``, inflated.

    Raises
    ------
    ValueError
        There is more to read, or the file cannot be inflated.
    OSError, and what pydicom raises on damaged files
    """
    with path.open("rb") as file:
        inflated = inflate_beginning(file, limit_bytes)
        ds = dcmread(inflated or Bounded(file, limit_bytes), **options)
    ds.buffer = None  # otherwise a copy of the data set would copy the buffer too
    if inflated:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds


class Bounded:
    """A file of which at most ``limit_bytes`` in all are read, at whatever offset; reading more raises a ValueError.

    Any element may claim 4 GB, and a few requested elements together could take all memory. ``read``, ``seek`` and
    ``tell`` are attributes and not methods, for speed: pydicom calls them several times per element.
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
    """Return the beginning of a deflated file, inflated, or None for any other file, rewound to its start."""
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
