"""Deflated files (PS3.5 A.5), which may grow to a thousand times their size: inflated with a bound."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

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
    """Return what `pydicom.dcmread` does with these options; of a deflated file no more than some bytes, inflated.

    Raises
    ------
    ValueError
        It cannot be inflated.
    OSError, and what pydicom raises on damaged files
    """
    source = bounded(path, limit_bytes)
    ds = dcmread(source, **options)
    if source is not path:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds


def bounded(path: Path, limit_bytes: int) -> Path | BytesIO:
    """Return what may be read in place of a file: the same, or the beginning of a deflated one, inflated."""
    with path.open("rb") as file:
        beginning = file.read(LONGEST_META_BYTES)
        if SYNTAX not in beginning:
            return path
        meta = read_file_meta_info(path)
        if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
            return path
        file.seek(PREAMBLE_BYTES + GROUP_LENGTH_BYTES + meta.FileMetaInformationGroupLength)
        try:
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(limit_bytes), limit_bytes)
        except zlib.error:
            raise ValueError("a deflated data set that cannot be inflated") from None
    syntax = ExplicitVRLittleEndian.encode() + b"\0"
    group = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    head = b"\x02\x00\x00\x00UL\x04\x00" + len(group).to_bytes(4, "little") + group
    return BytesIO(bytes(PREAMBLE_BYTES - 4) + b"DICM" + head + inflated)
