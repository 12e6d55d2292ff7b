"""Deflated files: read like others, and never inflated beyond a bound."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.deflated import bounded, read_bounded
from dicom_node.headers import read_header
from dicom_node.receive.part10 import file_meta
from tests.factories import ct_series

HU = np.zeros((1, 8, 8), np.int16)


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A CT image whose pixels of 64 MiB take 64 KB."""
    (path,) = ct_series(tmp_path, HU, transfer_syntax=DeflatedExplicitVRLittleEndian)
    ds = pydicom.dcmread(path)
    ds.PixelData = bytes(64 * 2**20)
    ds.save_as(path)
    assert path.stat().st_size < 2**17
    return path


def test_other_files_are_left_as_they_are(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, HU, transfer_syntax=ExplicitVRLittleEndian)
    assert bounded(path, 2**20) == path


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
    inflated = bounded(bomb, 2**20)
    assert isinstance(inflated, BytesIO)
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
