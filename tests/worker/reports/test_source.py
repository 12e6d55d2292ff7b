from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread

from tests.factories import multiframe_ct
from worker.reports.source import source_of
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
