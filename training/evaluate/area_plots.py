"""Draw area-plots: the area of a class in each slice, as predicted and as true. Shivdeo et al. 2021, figures 6-13."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from training.evaluate.metrics import FEWEST_SLICES, Values
from training.evaluate.sketch import Sketch
from training.files import replace_file

WIDTH, HEIGHT = 480, 120
MARGIN = 24


def write_area_plots(sketches: Sequence[Sketch], path: Path) -> None:
    """Write an SVG with a plot for each scan of at least ten slices: the truth in gray, the prediction in red.

    Nothing is written if no scan is that long.
    """
    scans = [scan for scan in sketches if len(scan.true_plot) >= FEWEST_SLICES]
    if not scans:
        return
    plots = "\n".join(plot(scan, top=number * (HEIGHT + 2 * MARGIN)) for number, scan in enumerate(scans))
    size = f"{WIDTH + 2 * MARGIN} {len(scans) * (HEIGHT + 2 * MARGIN)}"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="12">'
    text = f'{svg}\n<rect width="100%" height="100%" fill="white"/>\n{plots}\n</svg>\n'
    replace_file(path, lambda partial: partial.write_text(text))


def plot(scan: Sketch, top: int) -> str:
    """Return the plot of one scan, slices from the feet on the left to the head on the right."""
    return "\n".join(
        [
            f'<g transform="translate({MARGIN} {top + MARGIN})">',
            f'<text y="-6">likeness {scan.likeness:.3f}: {escape(scan.scan)}</text>',
            f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="black" stroke-width="0.5"/>',
            line(scan.true_plot, "gray"),
            line(scan.found_plot, "crimson"),
            "</g>",
        ]
    )


def line(values: Values, colour: str) -> str:
    """Return the SVG of a curve over the slices; the value 1 is at the top."""
    last = len(values) - 1
    points = " ".join(f"{WIDTH * i / last:.1f},{HEIGHT * (1 - value):.1f}" for i, value in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
