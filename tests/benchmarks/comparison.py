"""What a benchmark finds: values by contender and round, their medians, spread and ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

HILUM = "Hilum"


@dataclass(frozen=True)
class Comparison:
    """One quantity, measured for every contender in every round.

    The contenders of a round are measured one after another, so that what slows the machine down slows all
    of them: ratios are taken round by round.
    """

    title: str
    unit: str
    values: Mapping[str, list[float]]
    higher_is_better: bool = False
    along: str = ""
    """What grows from contender to contender, whose names are then numbers: drawn as a curve."""

    def ratios(self, peer: str) -> list[float]:
        """Return by how many times Hilum is better than a peer, in each round."""
        pairs = zip(self.values[HILUM], self.values[peer], strict=True)
        return [ours / theirs if self.higher_is_better else theirs / ours for ours, theirs in pairs]

    def as_json(self) -> dict[str, Any]:
        """Return the values with what follows from them."""
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


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and greatest."""
    return {"median": round(median(values), 3), "least": round(min(values), 3), "greatest": round(max(values), 3)}


def alternate(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure the contenders in turn, each round beginning with another one."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            values[name].append(contenders[name]())
    return values
