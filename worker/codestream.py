"""What a compressed frame says of itself, read without decoding it."""

from __future__ import annotations

import struct

JPEG = b"\xff\xd8"
"""Start of image: JPEG and JPEG-LS begin with it."""

JPEG_2000 = b"\xff\x4f\xff\x51"
"""Start of the codestream and of its size; the boxes of a JP2 file may come before."""

FILL = 0xFFFF
NO_FRAMES = (0xFFC4, 0xFFC8, 0xFFCC)
"""Markers among those of the frames that begin none."""

FRAMES = {*range(0xFFC0, 0xFFD0), 0xFFDE, 0xFFF7}.difference(NO_FRAMES)
"""Markers of JPEG's frames, of a hierarchy of frames, and of JPEG-LS's frame."""

END_OF_IMAGE = b"\xff\xd9"
"""The marker that ends JPEG and JPEG-LS (EOI)."""


def coded_shape(encoded: bytes) -> tuple[int, int, int]:
    """Return the rows, columns and components of a frame in JPEG, JPEG-LS or JPEG 2000.

    ITU-T T.81 B.2.2, T.87 C.2.2 and T.800 A.5.1.

    Raises
    ------
    ValueError, struct.error
        The frame is in none of these, or cut short.
    """
    if not encoded.startswith(JPEG):
        start = encoded.index(JPEG_2000) + len(JPEG_2000)
        _, _, right, bottom, left, top, *_, components = struct.unpack_from(">HH8LH", encoded, start)
        return bottom - top, right - left, components
    at = len(JPEG)
    while True:
        marker, length = struct.unpack_from(">HH", encoded, at)
        if marker in FRAMES:
            rows, columns, components = struct.unpack_from(">HHB", encoded, at + 5)
            return rows, columns, components
        at += 1 if marker == FILL else 2 + length


def is_whole(encoded: bytes) -> bool:
    """Whether a frame in JPEG or JPEG-LS has its end; decoders would make up the last rows of one cut short."""
    return encoded.rstrip(b"\0").endswith(END_OF_IMAGE)
