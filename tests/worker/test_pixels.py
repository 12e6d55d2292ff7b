from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import NotAnalysable
from tests.factories import chest_hu, ct_series, multiframe_ct
from worker.frames import Frame, read_frames
from worker.pixels import RETIRED_JPEG, decode_hu
from worker.volume import read_volume

SLICE = chest_hu((3, 64, 64))[0][1:2]
MANY = chest_hu((40, 16, 16))[0]

LOSSLESS = [
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
]  # fmt: skip
NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"]
LARGEST_DIFFERENCE_HU = {
    "1.2.840.10008.1.2.4.50": 65,  # JPEG baseline: 8 bits, 32 HU a step
    "1.2.840.10008.1.2.4.51": 40,  # JPEG extended, 12 bits, about 7:1
    "1.2.840.10008.1.2.4.53": 40,  # JPEG spectral selection, the same
    "1.2.840.10008.1.2.4.55": 40,  # JPEG full progression, the same
    "1.2.840.10008.1.2.4.81": 2,  # JPEG-LS near lossless
    "1.2.840.10008.1.2.4.91": 6,  # JPEG 2000, about 4:1
}
ENCAPSULATED = [syntax for syntax in (*LOSSLESS, *LARGEST_DIFFERENCE_HU) if syntax not in NATIVE]


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_keeps_every_value(tmp_path: Path, syntax: str) -> None:
    (path,) = ct_series(tmp_path, SLICE, transfer_syntax=syntax)
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(next(decode_hu(read_frames(path))), SLICE[0])


def test_an_unknown_transfer_syntax_is_refused_by_name(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, SLICE, transfer_syntax=RLELossless)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")  # MPEG2 video
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


@pytest.mark.parametrize(
    ("slope", "intercept"), [("1", "3e9"), ("1", "-3e9"), ("1", "2147483647"), ("1e308", "0"), ("-1e5", "0.5")]
)
def test_a_rescale_that_gives_no_hounsfield_units_is_refused(tmp_path: Path, slope: str, intercept: str) -> None:
    (path,) = ct_series(tmp_path, SLICE, RescaleSlope=slope, RescaleIntercept=intercept)
    with pytest.raises(NotAnalysable, match="expected Rescale Slope and Intercept that give HU") as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "no-rescale"


@pytest.mark.filterwarnings("ignore:Invalid value for VR IS:UserWarning")
@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x00280100, b""),  # Bits Allocated
        (0x00280100, b"\x10"),
        (0x00280004, b""),  # Photometric Interpretation
        (0x00280004, b"MONOCHROME2\\RGB"),
        (0x00280008, b"inf "),  # Number of Frames
    ],
)
def test_a_damaged_attribute_of_the_pixels_is_refused(tmp_path: Path, tag: int, value: bytes) -> None:
    (path,) = ct_series(tmp_path, SLICE)
    ds = dcmread(path)
    ds[tag] = RawDataElement(Tag(tag), dictionary_VR(tag), len(value), value, 0, False, True)
    ds.save_as(path)
    with pytest.raises(NotAnalysable) as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "damaged-pixels"


def test_a_defect_of_hilum_is_not_taken_for_damaged_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = ct_series(tmp_path, SLICE)
    monkeypatch.setattr("worker.pixels._to_hu", None)
    with pytest.raises(TypeError):
        list(decode_hu(read_frames(path)))


def test_pixels_cut_short_are_refused(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, SLICE)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(NotAnalysable, match="64 x 64"):
        list(decode_hu(read_frames(path)))


@pytest.mark.parametrize("kept_bytes", [0, 12, 18, 30, 40])
def test_a_file_that_ends_in_its_compressed_pixel_data_is_refused(tmp_path: Path, kept_bytes: int) -> None:
    (path,) = multiframe_ct(tmp_path, MANY[:3], transfer_syntax=JPEGLSLossless)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00") + kept_bytes])
    with pytest.raises(NotAnalysable) as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "damaged-pixels"


@pytest.mark.parametrize("frame", [1, 2])
def test_a_jpeg_ls_frame_cut_short_is_refused(tmp_path: Path, frame: int) -> None:
    """The decoder gives such a frame with the missing rows made up."""
    (path,) = multiframe_ct(tmp_path, MANY[:3], transfer_syntax=JPEGLSLossless)
    ds = dcmread(path)
    encoded = list(generate_frames(ds.PixelData, number_of_frames=3))
    encoded[frame] = encoded[frame][: len(encoded[frame]) // 4 * 2]
    ds.PixelData = encapsulate(encoded)
    ds.save_as(path)
    frames = read_frames(path)
    assert len(list(decode_hu(frames[:frame]))) == frame
    with pytest.raises(NotAnalysable) as caught:
        list(decode_hu(frames[frame:]))
    assert caught.value.code == "damaged-pixels"


# Where a compressed frame has its rows and columns, after the marker; and how they are encoded.
PLACES = {JPEGLSLossless: (b"\xff\xf7", 5, ">HH"), JPEG2000Lossless: (b"\xff\x51", 6, ">II")}


@pytest.mark.parametrize("syntax", PLACES)
def test_a_compressed_frame_that_is_larger_than_its_header_says_is_refused_undecoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    """Two kilobytes may be billions of pixels, which would take all memory."""
    (path,) = ct_series(tmp_path, SLICE, transfer_syntax=syntax)
    ds = dcmread(path)
    (encoded,) = generate_frames(ds.PixelData, number_of_frames=1)
    marker, offset, kind = PLACES[UID(syntax)]
    at = encoded.index(marker) + offset
    claimed = struct.pack(kind, 30000, 30000)
    ds.PixelData = encapsulate([encoded[:at] + claimed + encoded[at + len(claimed) :]])
    ds.save_as(path)

    def decode(*_: object, **__: object) -> Iterator[np.ndarray]:
        raise AssertionError("decoded")

    monkeypatch.setattr("worker.pixels.iter_pixels", decode)
    with pytest.raises(NotAnalysable, match="64 x 64") as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "damaged-pixels"


def slice_in(shared_data: Path, syntax: str) -> Dataset:
    """Return the slice that is stored in every transfer syntax, in this one."""
    stored = map(dcmread, sorted((shared_data / "odd-dicom" / "transfer-syntaxes").iterdir()))
    return next(ds for ds in stored if ds.file_meta.TransferSyntaxUID == syntax)


@pytest.mark.data
@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_a_compressed_frame_cut_short_is_refused(shared_data: Path, tmp_path: Path, syntax: str) -> None:
    ds = slice_in(shared_data, syntax)
    (encoded,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = encapsulate([encoded[: len(encoded) // 4 * 2]])
    path = tmp_path / "cut.dcm"
    ds.save_as(path)
    with pytest.raises(NotAnalysable) as caught:
        list(decode_hu(read_frames(path)))
    assert caught.value.code == "damaged-pixels"


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:A value of 'None' for .0028,0008.:UserWarning")
@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_a_compressed_frame_is_read_though_its_number_of_frames_is_empty(
    shared_data: Path, tmp_path: Path, syntax: str
) -> None:
    ds = slice_in(shared_data, syntax)
    ds.NumberOfFrames = None
    path = tmp_path / "empty.dcm"
    ds.save_as(path)
    assert len(list(decode_hu(read_frames(path)))) == 1


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, *RETIRED_JPEG])
def test_a_file_that_can_only_be_read_whole_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    is_deflated = syntax == DeflatedExplicitVRLittleEndian
    (path,) = multiframe_ct(tmp_path, MANY, transfer_syntax=syntax if is_deflated else RLELossless)
    if not is_deflated:  # nothing here can encode it, but nothing is decoded, so its UID is enough
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        ds.save_as(path)
    asked: list[int] = []

    def decode(frames: Sequence[Frame]) -> Iterator[np.ndarray]:
        asked.append(len(frames))
        return iter(np.zeros((len(frames), 16, 16), np.int16))

    monkeypatch.setattr("worker.volume.decode_hu", decode)
    read_volume([path])
    assert asked == [40]


def test_a_deflated_multiframe_ct_is_read(tmp_path: Path) -> None:
    paths = multiframe_ct(tmp_path, MANY, transfer_syntax=DeflatedExplicitVRLittleEndian, seed=3)
    np.testing.assert_array_equal(read_volume(paths).hu, MANY)


@pytest.mark.data
def test_a_slice_reads_alike_in_every_transfer_syntax(shared_data: Path) -> None:
    folder = shared_data / "odd-dicom" / "transfer-syntaxes"
    reference = next(decode_hu(read_frames(folder / "CTImage.dcm"))).astype(int)
    seen = set()
    for path in sorted(folder.iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the lossy files' padding of odd lengths
            frames = read_frames(path)
            difference = np.abs(next(decode_hu(frames)) - reference).max()
        syntax = frames[0].transfer_syntax_uid
        assert difference <= LARGEST_DIFFERENCE_HU.get(syntax, 0), syntax.name
        seen.add(str(syntax))
    assert seen == set(LOSSLESS) | set(LARGEST_DIFFERENCE_HU)
