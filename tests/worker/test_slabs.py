import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.slabs import Slabs


@pytest.mark.parametrize(
    ("spacing_mm", "slices_each"), [(5.0, 1), (2.0, 1), (1.25, 1), (1.0, 2), (0.625, 3), (0.5, 4), (0.1, 20)]
)
def test_slices_that_fit_into_the_length_are_one_slab(spacing_mm: float, slices_each: int) -> None:
    assert Slabs.about(2.0, 100, spacing_mm).slices_each == slices_each


@given(st.integers(1, 60), st.integers(1, 8))
def test_what_is_linear_along_the_slices_comes_back_between_the_first_and_last_middle(
    slices: int, slices_each: int
) -> None:
    slabs = Slabs(slices, slices_each)
    ramp = np.arange(slices, dtype=np.int16)[:, None, None] * np.full((1, 2, 3), 10, np.int16)
    means = np.stack([slabs.mean(ramp, slab) for slab in range(len(slabs))])
    found = np.array([slabs.at(means, z)[0, 0] for z in range(slices)])
    expected = np.clip(np.arange(slices) * 10, means[0, 0, 0], means[-1, 0, 0])
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_slab_of_one_slice_is_that_slice() -> None:
    hu = np.arange(24, dtype=np.int16).reshape(4, 2, 3)
    slabs = Slabs(4)
    assert len(slabs) == 4
    means = np.stack([slabs.mean(hu, slab) for slab in range(4)])
    for z in range(4):
        np.testing.assert_array_equal(slabs.at(means, z), hu[z])
