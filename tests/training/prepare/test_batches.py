from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from training.prepare.batches import choose, seed_from


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 99))
def test_every_example_is_seen_equally_often(examples: int, batch_size: int, seed: int) -> None:
    seen = Counter(i for step in range(examples) for i in choose(examples, batch_size, seed, step))
    assert set(seen.values()) == {batch_size}


def test_passes_differ() -> None:
    assert choose(20, 20, 0, 0) != choose(20, 20, 0, 1)


def test_neighbouring_numbers_give_unrelated_seeds() -> None:
    seeds = {seed_from(a, b) for a in range(20) for b in range(20)}
    assert len(seeds) == 400
