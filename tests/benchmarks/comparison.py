"""The results of a benchmark: values by contender and round, their medians, spread and ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

HILUM = "Hilum"


@dataclass(frozen=True)
class Comparison:
    """One quantity, measured for every contender in every round.

    The contenders of a round are measured one right after another. Whatever slows the machine down then slows all of
    them, so ratios are taken within each round.
    """

    title: str
    unit: str
    values: Mapping[str, list[float]]
    higher_is_better: bool = False
    along: str = ""
    """The quantity that grows from contender to contender; their names are then numbers, and a curve is drawn."""

    def ratios(self, peer: str) -> list[float]:
        """Return how many times better than a peer Hilum is, in each round."""
        pairs = zip(self.values[HILUM], self.values[peer], strict=True)
        return [ours / theirs if self.higher_is_better else theirs / ours for ours, theirs in pairs]

    def as_json(self) -> dict[str, Any]:
        """Return the values, each contender's median, and Hilum's ratios to each peer."""
        return {
            "title": self.title,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "along": self.along,
            "contenders": {
                name: {
                    "values": [round(value, 4) for value in values],
                    "median": round(median(values), 4),
                    "hilum_is_better_by": (
                        {} if name == HILUM or HILUM not in self.values else spread(self.ratios(name))
                    ),
                }
                for name, values in self.values.items()
            },
        }


def in_order(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contenders of a comparison from a file; those along a quantity come in the order in which it grows.

    The file sorts names as text: 1200 before 150.
    """
    contenders: dict[str, Any] = comparison["contenders"]
    return dict(sorted(contenders.items(), key=lambda item: int(item[0]))) if comparison.get("along") else contenders


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and greatest."""
    return {"median": round(median(values), 3), "least": round(min(values), 3), "greatest": round(max(values), 3)}


def alternate(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure the contenders in turn; each round begins with another contender."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            values[name].append(contenders[name]())
    return values
