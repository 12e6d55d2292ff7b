from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.synthetic import discs
from training.evaluate.compare import Judged
from training.evaluate.sketch import sketches_of


def test_a_caption_begins_with_what_a_long_name_of_a_scan_would_push_out_of_the_picture(tmp_path: Path) -> None:
    sample, *_ = discs(tmp_path / "prepared", count=1)
    judged = Judged(f"anna/{'1' * 64}", (sample,), sample.labels, sample.labels, 0.1)
    (scan,) = sketches_of([judged], 1)
    assert [tile.caption[:18] for _, tile in scan.tiles] == ["Dice 1.00, slice 1"]


def test_slices_that_show_nothing_and_in_which_nothing_was_found_have_no_tile(tmp_path: Path) -> None:
    samples = discs(tmp_path / "prepared", count=2)
    nothing = np.zeros_like(samples[0].labels)
    judged = [
        Judged(s.scan, (s,), nothing, true, 0.1) for s, true in zip(samples, (samples[0].labels, nothing), strict=True)
    ]
    assert [[dice for dice, _ in scan.tiles] for scan in sketches_of(judged, 1)] == [[0.0], []]


def test_areas_of_slices_that_were_cropped_differently_count_by_the_size_of_their_pixels(tmp_path: Path) -> None:
    samples = discs(tmp_path / "prepared", count=2)
    scan = tuple(replace(sample, voxel_ml=size) for sample, size in zip(samples, (1.0, 0.5), strict=True))
    labels = np.concatenate([samples[0].labels] * 2)
    (drawn,) = sketches_of([Judged("a", scan, labels, labels, 0.1)], 1)
    assert drawn.true_plot.tolist() == pytest.approx([1, 0.5])
