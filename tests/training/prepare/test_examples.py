from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.synthetic import discs
from training.prepare.examples import Example, Stacking, cut
from training.prepare.prepared import Prepared
from training.prepare.target import UNKNOWN


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
    assert all(len({sample.scan for sample, _ in example.scan}) == 1 for example in examples)
    assert len(examples) == 6


BACKGROUND, LUNG, INFECTION = 0, 1, 2


def column(*labels: int, thickness: int, slices: int = 1) -> Example:
    """Return an example of a scan with one pixel per slice, whose gray is a quarter of the slice's index."""
    grays = np.arange(len(labels), dtype=np.float16)[:, None, None] / 4
    scan = Prepared("s", "s", None, "s", 0, grays, np.array(labels, np.uint8)[:, None, None], 1.0, 1.0)
    return Example("s", [(scan, z) for z in range(len(labels))], 0, slices, thickness)


def test_a_thicker_slice_is_the_mean_of_its_slices() -> None:
    assert column(1, 1, 1, 1, thickness=3).image().tolist() == [[[0.25]]]


def test_a_stack_of_thicker_slices_covers_as_many_more_and_ends_with_the_scan() -> None:
    assert column(1, 1, 1, 1, 1, thickness=2, slices=3).image().ravel().tolist() == [0.125, 0.625, 1.0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((LUNG, LUNG, BACKGROUND), LUNG),
        ((BACKGROUND, BACKGROUND, LUNG), BACKGROUND),
        ((LUNG, BACKGROUND), LUNG),
        ((LUNG, INFECTION), INFECTION),
        ((LUNG, LUNG, INFECTION), LUNG),
        ((LUNG, UNKNOWN), UNKNOWN),
        ((UNKNOWN, LUNG, LUNG), LUNG),
    ],
)
def test_a_thicker_slice_is_labelled_as_most_of_its_slices(labels: tuple[int, ...], expected: int) -> None:
    assert column(*labels, thickness=len(labels)).labels().item() == expected


def test_the_thickness_of_a_slice_is_its_own_where_nothing_is_averaged(tmp_path: Path) -> None:
    (example,) = cut(discs(tmp_path, count=1), Stacking())
    assert np.array_equal(replace(example, thickness=4).image(), example.image())
