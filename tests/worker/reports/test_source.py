from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

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


def test_a_storage_that_is_not_there_makes_no_study_unreadable(tmp_path: Path) -> None:
    """Else a worker that came up before its storage would set studies aside for good."""
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
