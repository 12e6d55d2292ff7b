"""Curves of growing cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.comparison import in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS_IN_A_ROW = 2
LOGARITHMIC_FROM = 50
"""If the last point is at least this many times the first, a logarithmic x axis shows the ratios between points."""


def write_curves(path: Path, comparisons: Sequence[dict[str, Any]]) -> None:
    """Draw curves and save them as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(comparisons).savefig(path)


def draw_curves(comparisons: Sequence[dict[str, Any]]) -> Figure:
    """Draw a panel for each comparison: medians, and a band from the least to the greatest."""
    from matplotlib.figure import Figure  # slow to import, and few commands need it

    rows = -(-len(comparisons) // PANELS_IN_A_ROW)
    figure = Figure(figsize=(9.0, 2.9 * rows), dpi=110, layout="constrained")
    for number, comparison in enumerate(comparisons, 1):
        axes = figure.add_subplot(rows, PANELS_IN_A_ROW, number)
        contenders = in_order(comparison)
        along = [int(name) for name in contenders]
        values = [contender["values"] for contender in contenders.values()]
        axes.fill_between(along, [min(v) for v in values], [max(v) for v in values], alpha=0.2)
        axes.plot(along, [contender["median"] for contender in contenders.values()], marker="o", markersize=4)
        axes.set_title(comparison["title"], fontsize=10)
        axes.set_xlabel(comparison["along"])
        axes.set_ylabel(comparison["unit"])
        if along[-1] >= LOGARITHMIC_FROM * along[0]:
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)
        axes.set_ylim(0, 1.1 * max(map(max, values)))
        axes.grid(alpha=0.3)
    return figure
