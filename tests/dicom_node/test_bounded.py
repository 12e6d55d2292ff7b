"""Files read up to a bound, deflated ones too: the same values as pydicom reads, and nothing beyond the bound."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.bounded import inflate_beginning, read_bounded
from dicom_node.headers import read_header
from dicom_node.receive.part10 import file_meta
from tests.factories import ct_series

HU = np.zeros((1, 8, 8), np.int16)


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A deflated CT image whose 64 MiB of pixels take less than 128 KiB in the file."""
    (path,) = ct_series(tmp_path, HU, transfer_syntax=DeflatedExplicitVRLittleEndian)
    ds = pydicom.dcmread(path)
    ds.PixelData = bytes(64 * 2**20)
    ds.save_as(path)
    assert path.stat().st_size < 2**17
    return path


def test_other_files_are_not_inflated(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, HU, transfer_syntax=ExplicitVRLittleEndian)
    with path.open("rb") as file:
        assert inflate_beginning(file, 2**20) is None
        assert file.tell() == 0


def test_other_files_are_read_as_pydicom_reads_them(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, HU, transfer_syntax=ExplicitVRLittleEndian)
    assert read_bounded(path) == pydicom.dcmread(path)


def test_more_bytes_than_the_bound_are_not_read_however_small_the_parts(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, HU, transfer_syntax=ExplicitVRLittleEndian)
    with pytest.raises(ValueError, match="more than 400 bytes"):
        read_bounded(path, 400)


def test_a_deflated_file_reads_as_pydicom_reads_it(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, HU, transfer_syntax=DeflatedExplicitVRLittleEndian)
    read, expected = read_bounded(path), pydicom.dcmread(path)
    assert read == expected
    assert read.file_meta.TransferSyntaxUID == expected.file_meta.TransferSyntaxUID


def test_a_file_as_the_node_writes_it_reads_the_same(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, HU, transfer_syntax=DeflatedExplicitVRLittleEndian)
    written = pydicom.dcmread(path)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = file_meta(written.SOPClassUID, written.SOPInstanceUID, DeflatedExplicitVRLittleEndian, "SENDER")
    study = written.StudyInstanceUID
    written.preamble = None
    del written.file_meta
    data = BytesIO()
    written.save_as(data, implicit_vr=False, little_endian=True)
    path.write_bytes(head + deflate.compress(data.getvalue()) + deflate.flush())
    assert read_bounded(path).StudyInstanceUID == study


def test_a_bomb_is_inflated_no_further_than_the_bound(bomb: Path) -> None:
    with bomb.open("rb") as file:
        inflated = inflate_beginning(file, 2**20)
    assert inflated is not None
    assert len(inflated.getvalue()) < 2**20 + 256


def test_the_header_of_a_bomb_is_read(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "decompress", lambda *_: pytest.fail("inflated as a whole"))
    header = read_header(bomb)
    assert header is not None
    assert header.modality == "CT"


def test_what_cannot_be_inflated_has_no_header(bomb: Path) -> None:
    data = bomb.read_bytes()
    bomb.write_bytes(data[:400] + b"\xff" * 4000)
    assert read_header(bomb) is None
