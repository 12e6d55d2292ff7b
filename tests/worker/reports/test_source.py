from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.bounded import read_bounded
from dicom_node.errors import NotForHilum, PassingFailure
from tests.factories import ct_series, multiframe_ct
from worker.reports.source import read_source, source_of
from worker.volume import read_volume


def test_functional_groups_may_all_be_the_frames_own(tmp_path: Path) -> None:
    (path,) = multiframe_ct(tmp_path, np.zeros((4, 8, 8), np.int16), spacing_mm=(6.0, 3.0, 2.0))
    ds = dcmread(path)
    (shared,) = ds.SharedFunctionalGroupsSequence
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.update(shared)
    del ds.SharedFunctionalGroupsSequence
    ds.save_as(path)
    assert list(source_of(read_volume([path])).first.PixelSpacing) == [3.0, 2.0]


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
@pytest.mark.parametrize("written", [b"1,25  ", b"5.0mm ", b"NaN   ", b"inf   ", b"1\\2   ", b"0     ", b"-1.5  "])
@pytest.mark.parametrize("write", [ct_series, multiframe_ct])
def test_a_thickness_that_is_no_length_is_left_empty(
    tmp_path: Path, write: Callable[..., list[Path]], written: bytes
) -> None:
    paths = write(tmp_path, np.zeros((4, 8, 8), np.int16), spacing_mm=(6.1234, 3.0, 2.0))
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"6.1234", written))
    assert source_of(read_volume(paths)).first.SliceThickness is None


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_several_uids_in_place_of_one_refer_to_nothing(tmp_path: Path, keyword: str) -> None:
    paths = ct_series(tmp_path, np.zeros((4, 8, 8), np.int16), **{keyword: ["1.2", "1.3"]})
    with pytest.raises(NotForHilum, match="UIDs of study, series and image"):
        source_of(read_volume(paths))
    with pytest.raises(NotForHilum, match="UIDs of study, series and image"):
        read_source(paths)


def test_a_storage_that_is_not_there_makes_no_study_unreadable(tmp_path: Path) -> None:
    """Else a worker that starts before its storage is mounted would set studies aside for good."""
    with pytest.raises(PassingFailure, match="storage is mounted"):
        read_source([tmp_path / "1.dcm"])


def test_files_that_are_no_dicom_leave_nothing_to_refer_to(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_text("no image")
    with pytest.raises(NotForHilum):
        read_source([tmp_path / "1.dcm"])


def test_a_file_that_is_no_dicom_among_images_is_passed_over(tmp_path: Path) -> None:
    images = ct_series(tmp_path / "ct", np.zeros((2, 8, 8), np.int16))
    (tmp_path / "notes").write_text("no image")
    assert len(read_source([tmp_path / "notes", *images]).images) == 2


@pytest.mark.parametrize("unnamed", [1, 3])
def test_the_patient_is_the_one_of_the_first_image_that_has_an_id(tmp_path: Path, unnamed: int) -> None:
    paths = ct_series(tmp_path, np.zeros((4, 8, 8), np.int16), PatientID="4711", PatientName="Anna")
    for path in paths[:unnamed]:
        ds = dcmread(path)
        ds.PatientID, ds.PatientName = "", ""
        ds.save_as(path)
    for source in (source_of(read_volume(paths)), read_source(paths)):
        assert (source.identity.PatientID, source.identity.PatientName) == ("4711", "Anna")
        assert source.first.PatientID == "4711"


def test_a_patient_without_an_id_stays_without(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, np.zeros((4, 8, 8), np.int16), PatientID="", PatientName="Anna")
    for source in (source_of(read_volume(paths)), read_source(paths)):
        assert (source.identity.PatientID, source.identity.PatientName) == ("", "Anna")


@pytest.mark.parametrize("character_set", [None, "ISO_IR 999"])
def test_a_patient_id_of_no_known_character_set_is_read_as_utf_8_like_all_text(
    tmp_path: Path, character_set: str | None
) -> None:
    paths = ct_series(tmp_path, np.zeros((4, 8, 8), np.int16), PatientID="ID-12ab ", SpecificCharacterSet=character_set)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"ID-12ab ", "ÄÖ-12".encode() + b" "))
    for source in (source_of(read_volume(paths)), read_source(paths)):
        assert source.identity.PatientID == "ÄÖ-12"


def fail_whole_headers(monkeypatch: pytest.MonkeyPatch, *lost: Path) -> None:
    """Let the storage give the beginning of these files, which has the UIDs, and no more."""

    def read(path: Path, *, specific_tags: list[str] | None, **options: Any) -> Dataset:
        if path in lost and specific_tags is None:
            raise OSError(errno.EIO, "Input/output error")
        return read_bounded(path, specific_tags=specific_tags, **options)

    monkeypatch.setattr("worker.reports.source.read_bounded", read)


def test_an_image_whose_whole_header_the_storage_lost_is_replaced_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ct_series(tmp_path, np.zeros((2, 8, 8), np.int16), PatientID="4711")
    first = read_source(images).first.SOPInstanceUID
    fail_whole_headers(monkeypatch, *(path for path in images if dcmread(path).SOPInstanceUID == first))

    source = read_source(images)

    assert (source.identity.PatientID, len(source.images)) == ("4711", 2)


def test_a_storage_that_lost_every_whole_header_may_give_them_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ct_series(tmp_path, np.zeros((2, 8, 8), np.int16))
    fail_whole_headers(monkeypatch, *images)

    with pytest.raises(PassingFailure, match="Input/output error"):
        read_source(images)
