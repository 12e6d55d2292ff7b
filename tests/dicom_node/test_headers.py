"""Reading the headers of a series."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.bounded import LONGEST_HEADER_BYTES
from dicom_node.errors import PassingFailure
from dicom_node.headers import number, numbers, read_header, read_series
from dicom_node.receive.part10 import file_meta
from tests.factories import ct_series, multiframe_ct

HU = np.full((4, 8, 8), -800, np.int16)


def test_a_slice_tells_what_selection_needs(tmp_path: Path) -> None:
    path = ct_series(tmp_path, HU, spacing_mm=(2.5, 1, 1), origin_mm=(-10, -20, -30), ConvolutionKernel=["B40f", "3"])[
        0
    ]
    header = read_header(path)
    assert header is not None
    assert header.sop_class_uid == CTImageStorage
    assert (header.thickness_mm, header.kernel, header.frames, header.body_part) == (2.5, "B40F 3", 1, "CHEST")
    assert header.orientation == (1, 0, 0, 0, 1, 0)
    assert header.positions == ((-10, -20, -30),)
    assert header.image_type[:2] == ("ORIGINAL", "PRIMARY")
    assert not header.urgent


def test_an_image_tells_what_its_values_are(tmp_path: Path) -> None:
    iodine = read_header(ct_series(tmp_path / "iodine", HU, RescaleType="MGML")[0])
    enhanced = read_header(multiframe_ct(tmp_path / "enhanced", HU)[0])
    assert iodine is not None
    assert enhanced is not None
    assert (iodine.rescale_type, enhanced.rescale_type) == ("MGML", "HU")


@pytest.mark.parametrize("legacy_converted", [False, True])
def test_frames_of_a_multiframe_object_are_slices_with_positions(tmp_path: Path, legacy_converted: bool) -> None:
    (path,) = multiframe_ct(tmp_path, HU, spacing_mm=(2.5, 1, 1), legacy_converted=legacy_converted)
    header = read_header(path)
    assert header is not None
    assert (header.frames, len(header.positions), header.thickness_mm) == (4, 4, 2.5)
    assert header.orientation == (1, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("legacy_converted", [False, True], ids=["enhanced", "legacy converted"])
@pytest.mark.parametrize("is_own", [False, True], ids=["shared", "of each frame"])
def test_the_kernel_of_a_multiframe_object_stands_in_its_functional_groups(
    tmp_path: Path, legacy_converted: bool, is_own: bool
) -> None:
    (path,) = multiframe_ct(
        tmp_path, HU, legacy_converted=legacy_converted, kernel=["B70f", "3"], kernel_of_each_frame=is_own
    )
    header = read_header(path)
    assert header is not None
    assert header.kernel == "B70F 3"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_headers_are_read_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    header = read_header(ct_series(tmp_path, HU, transfer_syntax=syntax)[0])
    assert header is not None
    assert header.orientation == (1, 0, 0, 0, 1, 0)


def test_headers_are_read_in_big_endian(tmp_path: Path) -> None:
    ds = pydicom.dcmread(ct_series(tmp_path, HU)[0])
    del ds.PixelData
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big = Dataset(ds)
    big.file_meta = ds.file_meta
    big.save_as(tmp_path / "big.dcm", enforce_file_format=True)
    header = read_header(tmp_path / "big.dcm")
    assert header is not None
    assert header.orientation == (1, 0, 0, 0, 1, 0)


@pytest.mark.parametrize(("priority", "urgent"), [("STAT", True), ("HIGH", True), ("ROUTINE", False), ("", False)])
def test_requested_procedure_priority_says_what_is_urgent(tmp_path: Path, priority: str, urgent: bool) -> None:
    header = read_header(ct_series(tmp_path, HU, RequestedProcedurePriority=priority)[0])
    assert header is not None
    assert header.urgent is urgent


def test_what_a_database_could_not_store_is_left_out_of_words(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, np.zeros((1, 4, 4), np.int16), ConvolutionKernel="B30f\0x", Modality="C\0T")
    header = read_header(path)
    assert header is not None
    assert (header.kernel, header.modality) == ("B30FX", "CT")


def test_empty_values_are_read_as_absent(tmp_path: Path) -> None:
    empty = dict.fromkeys(("SliceThickness", "ImageOrientationPatient", "ConvolutionKernel", "ImageType"), "")
    header = read_header(ct_series(tmp_path, HU, **empty)[0])
    assert header is not None
    assert (header.thickness_mm, header.orientation, header.kernel, header.image_type) == (None, None, "", ())


def test_series_are_told_apart_and_what_is_no_dicom_is_counted(tmp_path: Path) -> None:
    paths = [*ct_series(tmp_path / "a", HU), *ct_series(tmp_path / "b", HU[:2])]
    (tmp_path / "notes.txt").write_text("not DICOM")
    found = read_series([*paths, tmp_path / "notes.txt"])
    assert [series.slices for series in found] == [4, 2, 0]
    assert found[2].unreadable == 1


def test_what_cannot_be_read_is_counted_in_the_series_it_was_received_in(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, HU, SeriesInstanceUID="1.2.3")
    paths[0].write_text("not DICOM")
    (found,) = read_series(paths, dict.fromkeys(paths, "1.2.3"))
    assert (found.series_instance_uid, found.slices, found.unreadable) == ("1.2.3", 3, 1)


def test_a_file_that_cannot_be_opened_is_a_passing_failure_not_bad_dicom(tmp_path: Path) -> None:
    """A storage that is not mounted must not make Hilum refuse studies."""
    with pytest.raises(PassingFailure, match="storage"):
        read_header(tmp_path / "missing.dcm")


@pytest.mark.parametrize("says_its_length", [True, False])
def test_what_a_header_holds_beyond_all_measure_is_not_read(tmp_path: Path, says_its_length: bool) -> None:
    path = tmp_path / "huge.dcm"
    length = LONGEST_HEADER_BYTES + 1 if says_its_length else 0xFFFFFFFF
    sop_class = CTImageStorage.encode() + b"\0"
    with path.open("wb") as file:  # a sparse file: it takes no space on the disk
        file.write(file_meta(CTImageStorage, "1.2.3", ImplicitVRLittleEndian, "SENDER"))
        file.write(struct.pack("<HHL", 0x0008, 0x0016, len(sop_class)) + sop_class)
        file.write(struct.pack("<HHL", 0x0008, 0x1030, length))
        file.seek(LONGEST_HEADER_BYTES + 1, 1)
        file.write(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
    assert read_header(path) is None


@pytest.fixture(scope="module")
def whole_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return multiframe_ct(tmp_path_factory.mktemp("whole"), HU)[0]


@pytest.mark.filterwarnings("ignore::UserWarning")
@example(changes=[(1 / 128, 0)], kept=1.0)  # pydicom raises an error of its own
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20), st.floats(0, 1))
def test_damaged_files_never_raise(whole_object: Path, changes: list[tuple[float, int]], kept: float) -> None:
    content = bytearray(whole_object.read_bytes())
    for where, byte in changes:
        content[132 + int(where * (len(content) - 133))] = byte
    damaged = whole_object.with_name("damaged.dcm")
    damaged.write_bytes(content[: int(kept * len(content))])
    read_series([damaged])


@given(st.text() | st.floats() | st.none())
def test_a_number_is_finite_or_none(value: object) -> None:
    found = number(value)
    assert found is None or math.isfinite(found)


def test_one_bad_component_spoils_a_vector() -> None:
    ds = Dataset()
    ds.ImagePositionPatient = ["1", "2", "3"]
    assert numbers(ds.ImagePositionPatient) == (1, 2, 3)
    assert numbers(["1", "nan", "3"]) is None
    assert numbers([]) is None
