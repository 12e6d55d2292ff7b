"""Errors for folders that hold no study, or not all of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import NotForHilum
from dicom_node.folder import files_in, read_one_study
from tests.factories import ct_series

HU = np.zeros((2, 8, 8), np.int16)


def test_the_files_of_subfolders_are_found(tmp_path: Path) -> None:
    ct_series(tmp_path / "a" / "b", HU)
    (tmp_path / "notes.txt").write_text("not DICOM")
    assert len(files_in(tmp_path)) == 3
    assert [len(series.images) for series in read_one_study(tmp_path) if series.images] == [2]


def test_a_folder_that_is_linked_to_is_searched_once(tmp_path: Path) -> None:
    ct_series(tmp_path / "archive", HU)
    study = tmp_path / "study"
    study.mkdir()
    for name, target in (("ct", tmp_path / "archive"), ("again", tmp_path / "archive"), ("loop", study)):
        (study / name).symlink_to(target)
    assert len(files_in(study)) == 2


def test_a_folder_with_two_studies_is_refused(tmp_path: Path) -> None:
    ct_series(tmp_path / "a", HU, StudyInstanceUID="1.2.3")
    ct_series(tmp_path / "b", HU, StudyInstanceUID="1.2.4")
    with pytest.raises(NotForHilum, match="got 2 studies"):
        read_one_study(tmp_path)


def test_a_folder_without_dicom_says_how_many_files_were_tried(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not DICOM")
    with pytest.raises(NotForHilum, match="none of its 1 files"):
        read_one_study(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotForHilum, match=f"expected a folder, got .*{name}"):
        files_in(tmp_path / name)


def test_a_subfolder_that_cannot_be_read_is_no_silent_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ct_series(tmp_path / "a", HU)
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> os._ScandirIterator[str]:  # because root, as in a container, may read every folder
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(NotForHilum, match="closed cannot be read: Permission denied"):
        files_in(tmp_path)
