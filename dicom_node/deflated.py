"""Deflated files (PS3.5 A.5), which may grow to a thousand times their size: inflated with a bound."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

LONGEST_META_BYTES = 4096
PREAMBLE_BYTES = 132
GROUP_LENGTH_BYTES = 12
SYNTAX = DeflatedExplicitVRLittleEndian.encode()


def bounded(path: Path, limit_bytes: int) -> Path | BytesIO:
    """Return what pydicom may read in place of a file: the same, or the beginning of a deflated one, inflated.

    Raises
    ------
    OSError, zlib.error, and what pydicom raises on damaged file meta information
    """
    with path.open("rb") as file:
        beginning = file.read(LONGEST_META_BYTES)
        if SYNTAX not in beginning:
            return path
        meta = read_file_meta_info(path)
        if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
            return path
        file.seek(PREAMBLE_BYTES + GROUP_LENGTH_BYTES + meta.FileMetaInformationGroupLength)
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(limit_bytes), limit_bytes)
    syntax = ExplicitVRLittleEndian.encode() + b"\0"
    group = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    head = b"\x02\x00\x00\x00UL\x04\x00" + len(group).to_bytes(4, "little") + group
    return BytesIO(bytes(PREAMBLE_BYTES - 4) + b"DICM" + head + inflated)
