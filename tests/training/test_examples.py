from pathlib import Path

import numpy as np
import pytest

from tests.training.synthetic import discs
from training.examples import Stacking, cut
from training.target import UNKNOWN


@pytest.mark.parametrize(("overlapping", "stacks"), [(20, 49), (0, 19)])
def test_601_slices_make_the_stacks_that_shivdeo_et_al_count(overlapping: int, stacks: int) -> None:
    assert len(Stacking(32, overlapping / 32).starts(601)) == stacks


def test_overlapping_stacks_begin_where_the_paper_says() -> None:
    assert Stacking(32, 0.625).starts(601)[:3] == [0, 12, 24]
    assert Stacking(32, 0.625).starts(601)[-1] == 576


def test_every_slice_is_in_a_stack(tmp_path: Path) -> None:
    prepared = discs(tmp_path, count=1, slices=10)
    examples = cut(prepared, Stacking(4, 0.5))
    assert np.array_equal(examples[1].image(), prepared[0].image[2:6])
    assert np.array_equal(examples[-1].image(), prepared[0].image[6:10])


def test_a_scan_that_is_too_short_is_padded_with_unknown_labels(tmp_path: Path) -> None:
    prepared = discs(tmp_path, count=1, slices=3)
    (example,) = cut(prepared, Stacking(8))
    assert np.array_equal(example.image()[3:], np.repeat(prepared[0].image[2:], 5, axis=0))
    assert (example.labels()[3:] == UNKNOWN).all()
    assert np.array_equal(example.labels()[:3], prepared[0].labels)


def test_a_stack_never_spans_two_scans(tmp_path: Path) -> None:
    examples = cut(discs(tmp_path, count=3, slices=5), Stacking(4))
    assert all(len({sample.scan for sample, _ in example.parts}) == 1 for example in examples)
    assert len(examples) == 6
