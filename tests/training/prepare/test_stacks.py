"""Stacks cover a scan."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.prepare.stacks import stack_step, window_starts

WINDOWS = st.tuples(st.integers(1, 200), st.integers(1, 40)).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, pair[1]))
)


@given(WINDOWS)
def test_windows_cover_every_slice_and_only_the_last_reaches_beyond(case: tuple[int, int, int]) -> None:
    slices, depth, step = case
    starts = window_starts(slices, depth, step)
    covered = {s for start in starts for s in range(start, start + depth)}
    assert covered >= set(range(slices))
    assert all(start + depth <= slices for start in starts[:-1])
    assert all(after - before == step for before, after in pairwise(starts))


@pytest.mark.parametrize(("factor", "stacks"), [(0.625, 49), (0.0, 19)])
def test_601_slices_make_the_stacks_of_shivdeo(factor: float, stacks: int) -> None:
    starts = window_starts(601, 32, stack_step(32, factor))
    assert len(starts) == stacks
    assert starts[-1] + 32 == 608
