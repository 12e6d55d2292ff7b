from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000, UID, HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.errors import NotAnalysable
from tests.factories import chest_hu, ct_series
from worker.frames import read_frames
from worker.pixels import decode_hu

SLICE = chest_hu((3, 64, 64))[0][1:2]

LOSSLESS = [
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
]  # fmt: skip
LARGEST_DIFFERENCE_HU = {
    "1.2.840.10008.1.2.4.50": 65,  # JPEG baseline: 8 bits, 32 HU a step
    "1.2.840.10008.1.2.4.51": 40,  # JPEG extended, 12 bits, about 7:1
    "1.2.840.10008.1.2.4.53": 40,  # JPEG spectral selection, the same
    "1.2.840.10008.1.2.4.55": 40,  # JPEG full progression, the same
    "1.2.840.10008.1.2.4.81": 2,  # JPEG-LS near lossless
    "1.2.840.10008.1.2.4.91": 6,  # JPEG 2000, about 4:1
}


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_keeps_every_value(tmp_path: Path, syntax: str) -> None:
    (path,) = ct_series(tmp_path, SLICE, transfer_syntax=syntax)
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(next(decode_hu(read_frames(path))), SLICE[0])


def test_an_unknown_transfer_syntax_is_refused_by_name(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, SLICE, transfer_syntax=RLELossless)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # a film
    ds.save_as(path)
    with pytest.raises(NotAnalysable, match="MPEG2") as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "unsupported-transfer-syntax"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEG2000, HTJ2KLossless])
def test_damaged_pixels_are_refused(tmp_path: Path, syntax: str) -> None:
    (path,) = ct_series(tmp_path, SLICE, transfer_syntax=JPEG2000Lossless)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.PixelData = ds.PixelData[:16] + b"\x00" * 200
    ds.save_as(path)
    with pytest.raises(NotAnalysable) as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "damaged-pixels"


def test_more_bits_than_a_ct_has_are_refused(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, SLICE)
    ds = dcmread(path)
    ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype("<u4").tobytes()
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 32, 32, 31, 0
    ds["PixelData"].VR = "OW"
    ds.save_as(path)
    with pytest.raises(NotAnalysable) as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "damaged-pixels"


def test_pixels_cut_short_are_refused(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, SLICE)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(NotAnalysable, match="64 x 64"):
        list(decode_hu(read_frames(path)))


@pytest.mark.data
def test_a_slice_reads_alike_in_every_transfer_syntax(shared_data: Path) -> None:
    folder = shared_data / "odd-dicom" / "transfer-syntaxes"
    reference = next(decode_hu(read_frames(folder / "CTImage.dcm"))).astype(int)
    seen = set()
    for path in sorted(folder.iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the lossy files' own padding of odd lengths
            frames = read_frames(path)
            difference = np.abs(next(decode_hu(frames)) - reference).max()
        syntax = frames[0].transfer_syntax_uid
        assert difference <= LARGEST_DIFFERENCE_HU.get(syntax, 0), syntax.name
        seen.add(str(syntax))
    assert seen == set(LOSSLESS) | set(LARGEST_DIFFERENCE_HU)
