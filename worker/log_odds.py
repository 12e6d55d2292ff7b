"""Log-odds of sets of classes in a network's logits, and how far two readings of the same slices agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Classes = tuple[int, ...]
"""A set of classes: the network is asked whether a pixel is one of them."""

LEAST = np.float32(1e-6)
"""Lower bound of a probability, so that its logarithm stays finite."""


@dataclass
class Agreement:
    """How much infection two readings of the same slices find, and how much they differ.

    ``lung`` counts pixels of the network's image; ``found`` and ``difference`` are sums of probabilities over them.
    """

    lung: float = 0.0
    found: float = 0.0
    difference: float = 0.0

    def note(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Add two readings of some slices: log-odds of whole lung and of infection, (slices, 2, rows, columns)."""
        inside = one[:, 0] + other[:, 0] >= 0
        infected = [probability(log_odds[:, 1][inside]) for log_odds in (one, other)]
        self.lung += float(np.count_nonzero(inside))
        self.found += float(infected[0].sum() + infected[1].sum()) / 2
        self.difference += float(np.abs(infected[0] - infected[1]).sum())

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.lung + other.lung, self.found + other.found, self.difference + other.difference)

    @property
    def found_percent(self) -> float:
        """Infection in percent of the lung, the mean of both readings."""
        return 100 * self.found / max(self.lung, 1.0)

    @property
    def difference_percent(self) -> float:
        """Infection that only one of the readings finds, in percent of the lung."""
        return 100 * self.difference / max(self.lung, 1.0)


def log_odds_of(logits: NDArray[np.float32], asked: Sequence[Classes]) -> NDArray[np.float32]:
    """Return the log-odds of sets of classes, (n, asked, rows, columns), from logits (n, classes, rows, columns)."""
    shares: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    unions: NDArray[np.float32] = np.stack([shares[:, classes].sum(axis=1) for classes in asked], axis=1)
    others = shares.sum(axis=1, keepdims=True) - unions
    log_odds: NDArray[np.float32] = np.log(np.maximum(unions, LEAST)) - np.log(np.maximum(others, LEAST))
    return log_odds


def probability(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability that belongs to log-odds."""
    probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-log_odds))
    return probabilities


def log_odds_at(probabilities: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """Return the log-odds that belong to a probability."""
    sure = np.clip(probabilities, LEAST, 1 - LEAST)
    log_odds: NDArray[np.float32] = np.log(sure / (1 - sure))
    return log_odds
