"""Scans that are cut into windows, and results that are put together again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluate.scan import Segmenter
from worker.networks.errors import NetworkError


@dataclass
class FakeEngine:
    """An engine whose logits are a function of its input, one class."""

    logits: Callable[[np.ndarray], np.ndarray]
    name: str = "fake"
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.shapes.append(batch.shape)
        return self.logits(batch).astype(np.float32)


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability) - np.log1p(-probability)


def echo(layout: str) -> FakeEngine:
    """Return an engine whose probabilities equal its input."""
    return FakeEngine(lambda batch: logit(batch[:, None] if layout == "2.5d" else batch))


def read(segmenter: Segmenter, scan: np.ndarray) -> np.ndarray:
    chunks = list(segmenter.probabilities(scan))
    firsts = np.cumsum([0, *(len(chunk) for _, chunk in chunks)])
    assert [first for first, _ in chunks] == list(firsts[:-1])
    return np.concatenate([chunk for _, chunk in chunks])


@given(
    st.sampled_from(["2d", "2.5d", "3d"]),
    st.integers(1, 30),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_a_network_that_echoes_its_input_gives_the_scan_back(
    layout: str, slices: int, rows: int, columns: int, batch: int, seed: int
) -> None:
    scan = np.random.default_rng(seed).uniform(0.01, 0.99, (slices, rows, columns)).astype(np.float32)
    segmenter = Segmenter(echo(layout), layout, (1, 4, 8), stack_slices=8, batch=batch)
    np.testing.assert_allclose(read(segmenter, scan)[:, 0], scan, atol=1e-5)


def test_network_sees_multiples_of_its_divisors() -> None:
    engine = echo("3d")
    list(Segmenter(engine, "3d", (4, 16, 16), stack_slices=8).probabilities(np.full((9, 30, 33), 0.5)))
    assert engine.shapes == [(1, 1, 8, 32, 48)] * 2


@given(st.integers(1, 12), st.integers(1, 5))
def test_neighbouring_triplets_are_averaged(slices: int, batch: int) -> None:
    """The three masks of a window differ; a slice gets the mean of the masks of all windows that contain it."""
    scan = np.linspace(0.1, 0.9, slices, dtype=np.float32)[:, None, None]

    def probability(window: np.ndarray) -> np.ndarray:
        return window[:, :1] * np.array([0.2, 0.5, 0.9])[None, :, None, None]  # of the window's first slice

    engine = FakeEngine(lambda batch: logit(probability(batch))[:, None])
    found = read(Segmenter(engine, "2.5d", (1, 1, 1), batch=batch), scan)[:, 0, 0, 0]

    seen: dict[int, list[float]] = {s: [] for s in range(slices)}
    for start in range(max(slices - 2, 1)):
        for offset, factor in enumerate((0.2, 0.5, 0.9)):
            seen.setdefault(start + offset, []).append(float(scan[start, 0, 0]) * factor)
    np.testing.assert_allclose(found, [np.mean(seen[s]) for s in range(slices)], rtol=1e-4)


def test_sigmoid_is_labelled_from_its_threshold_on() -> None:
    scan = np.array([[[0.1, 0.19, 0.21, 0.9]]])
    labels = Segmenter(echo("2d"), "2d", (1, 1, 1), threshold=0.2).labels(scan)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[[0, 0, 1, 1]]]


def test_softmax_is_labelled_with_the_likeliest_class() -> None:
    engine = FakeEngine(lambda batch: np.concatenate([batch, 1 - batch, np.full_like(batch, 0.7)], axis=1))
    labels = Segmenter(engine, "2d", (1, 1, 1)).labels(np.array([[[0.9, 0.1, 0.5]]]))
    assert labels.tolist() == [[[0, 1, 2]]]


def test_softmax_probabilities_add_up_to_one() -> None:
    engine = FakeEngine(lambda batch: np.concatenate([batch, -batch], axis=1))
    found = read(Segmenter(engine, "2d", (1, 1, 1)), np.random.default_rng(0).random((5, 4, 4)))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_no_more_than_a_window_of_probabilities_is_held() -> None:
    segmenter = Segmenter(echo("3d"), "3d", (1, 1, 1), stack_slices=8)
    assert max(len(chunk) for _, chunk in segmenter.probabilities(np.full((100, 2, 2), 0.5))) <= 8


def test_stacks_that_the_network_cannot_read_are_refused() -> None:
    with pytest.raises(NetworkError) as caught:
        Segmenter(echo("3d"), "3d", (16, 16, 16), stack_slices=12)
    assert caught.value.code == "bad-stack"
