"""From stored pixel values, in any transfer syntax, to Hounsfield units."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from os import SEEK_CUR

import numpy as np
from libjpeg.utils import decode as decode_jpeg
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import generate_frames, get_frame
from pydicom.errors import BytesLengthException
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from dicom_node.bounded import LONGEST_HEADER_BYTES, read_bounded
from worker.codestream import coded_shape, is_whole
from worker.frames import Frame, refusal

OUTSIDE_HU = -1024
"""The value outside the field of view, and the lowest value kept: scanners write values down to -3024 there."""

RETIRED_JPEG = ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")
"""JPEG spectral selection (processes 6 and 8) and full progression (10 and 12), both non-hierarchical.

Retired from the standard and refused by pydicom, but still in archives; libjpeg decodes them.
"""

PIXEL_DATA_HEADER_BYTES = 12
"""Tag, VR and length of Pixel Data in Explicit VR, in which all compressed images are encoded (PS3.5 A.4)."""

DAMAGED_ATTRIBUTE = (BytesLengthException, TypeError, KeyError, IndexError, OverflowError)
"""What pydicom raises on an attribute of the wrong length or type, such as Bits Allocated as text."""

BYTES_PER_PIXEL = 4
"""The most that a stored pixel takes."""

BITS_AT_MOST = 16
"""The most Bits Stored that a CT may have (PS3.3 C.8.2.1.1.4)."""

LARGEST_RESCALED = np.iinfo(np.int32).max
"""A rescale that may give larger values than this, or lower ones than its negative, does not give HU."""


def decode_hu(frames: Sequence[Frame]) -> Iterator[NDArray[np.int16]]:
    """Decode frames of one file to HU, int16 (row, column), in the order given.

    Values are rounded to whole HU and clipped to -1024 to 32767. Padding becomes -1024. With a lossy transfer
    syntax, the values are the approximation that it contains.

    Raises
    ------
    NotAnalysable, NotForHilum
        The transfer syntax is unknown, the rescale gives values that cannot be HU, or the pixel data is damaged.
    """
    first = frames[0]
    try:
        for frame, stored in zip(frames, _decoded(frames), strict=True):
            yield _to_hu(frame, stored)
    except NotImplementedError as error:  # pydicom raises it for a transfer syntax that it has no decoder for
        message = (
            f"expected pixel data Hilum can decode, got transfer syntax {first.transfer_syntax_uid.name}; "
            "have the sender use Explicit VR Little Endian or a lossless JPEG"
        )
        raise refusal(first.body_part, "unsupported-transfer-syntax", message) from error
    except (RuntimeError, ValueError, AttributeError, EOFError, struct.error) as error:
        message = (
            f"expected pixel data of {first.rows} x {first.columns} in {first.transfer_syntax_uid.name}, "
            "got data that cannot be decoded; send the image again"
        )
        raise refusal(first.body_part, "damaged-pixels", message) from error


def is_read_whole(frame: Frame) -> bool:
    """Whether single frames cannot be read from the file, so that every call of `decode_hu` reads all of it."""
    return frame.transfer_syntax_uid in (DeflatedExplicitVRLittleEndian, *RETIRED_JPEG)


def _decoded(frames: Sequence[Frame]) -> Iterator[NDArray[np.integer]]:
    """Yield the stored values of frames; raise ValueError if an attribute that describes the pixels is damaged."""
    try:
        yield from _stored_values(frames)
    except DAMAGED_ATTRIBUTE as error:  # caught only here: outside the decoders, most of these are defects of Hilum
        raise ValueError("expected attributes that describe the pixels, got damaged ones") from error


def _stored_values(frames: Sequence[Frame]) -> Iterator[NDArray[np.integer]]:
    path, syntax = frames[0].path, frames[0].transfer_syntax_uid
    indices = [_index(frame) for frame in frames]
    if syntax in RETIRED_JPEG:
        return _retired_jpeg(frames)
    if syntax == DeflatedExplicitVRLittleEndian:  # deflated as a whole, so no frame can be sought
        claimed_bytes = (max(indices) + 1) * frames[0].rows * frames[0].columns * BYTES_PER_PIXEL
        return iter_pixels(read_bounded(path, LONGEST_HEADER_BYTES + claimed_bytes), indices=indices, raw=True)
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes):
        _require_sound_frames(frames)
    return iter_pixels(path, indices=indices, raw=True, transfer_syntax_uid=syntax)


def _retired_jpeg(frames: Sequence[Frame]) -> Iterator[NDArray[np.integer]]:
    ds = dcmread(frames[0].path, specific_tags=["PixelData", "NumberOfFrames"])
    count = int(ds.get("NumberOfFrames") or 1)
    encoded = list(generate_frames(ds.PixelData, number_of_frames=count))
    for frame in frames:
        _require_sound(encoded[_index(frame)], frame)
        yield decode_jpeg(encoded[_index(frame)])


def _require_sound_frames(frames: Sequence[Frame]) -> None:
    with frames[0].path.open("rb") as file:
        header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
        file.seek(PIXEL_DATA_HEADER_BYTES, SEEK_CUR)
        count = int(header.get("NumberOfFrames") or 1)
        for frame in frames:
            _require_sound(get_frame(file, _index(frame), number_of_frames=count), frame)


def _require_sound(encoded: bytes, frame: Frame) -> None:
    """Raise ValueError if a compressed frame was cut short, or decodes to another size than its header says.

    A decoder takes memory for the size that the frame names itself, which may be any.
    """
    if (shape := coded_shape(encoded)) != (frame.rows, frame.columns, 1):
        raise ValueError(f"expected {frame.rows} x {frame.columns} pixels, got rows, columns and components {shape}")
    if frame.transfer_syntax_uid not in JPEG2000TransferSyntaxes and not is_whole(encoded):
        raise ValueError("expected the marker that ends the image, got none: the pixel data was cut short")


def _index(frame: Frame) -> int:
    return (frame.number or 1) - 1


def _to_hu(frame: Frame, stored: NDArray[np.integer]) -> NDArray[np.int16]:
    if stored.shape != (frame.rows, frame.columns):
        raise ValueError(f"expected {frame.rows} x {frame.columns} pixels, got {stored.shape}")
    _require_hu(frame)
    values = _significant_bits(frame, stored)
    if frame.slope == 1 and frame.intercept.is_integer():
        hu = values + np.int32(frame.intercept)
    else:
        hu = np.rint(values * frame.slope + frame.intercept)
    np.clip(hu, OUTSIDE_HU, np.iinfo(np.int16).max, out=hu)
    if frame.padding is not None:
        low, high = frame.padding
        hu[(values >= low) & (values <= high)] = OUTSIDE_HU
    return hu.astype(np.int16)


def _require_hu(frame: Frame) -> None:
    """Refuse a rescale whose values would overflow."""
    if abs(frame.slope) * 2**BITS_AT_MOST + abs(frame.intercept) > LARGEST_RESCALED:
        message = (
            f"expected Rescale Slope and Intercept that give HU, got {frame.slope:g} and {frame.intercept:g}; "
            "correct them at the sender"
        )
        raise refusal(frame.body_part, "no-rescale", message)


def _significant_bits(frame: Frame, stored: NDArray[np.integer]) -> NDArray[np.int32]:
    """Drop what old scanners keep in the bits above Bits Stored (overlays), and extend the sign."""
    if frame.bits_stored > BITS_AT_MOST:
        raise ValueError(f"expected at most {BITS_AT_MOST} bits stored, got {frame.bits_stored}")
    values = stored.astype(np.int32)
    unused = 32 - frame.bits_stored
    if frame.is_signed:
        return (values << unused) >> unused
    return values & ((1 << frame.bits_stored) - 1)
