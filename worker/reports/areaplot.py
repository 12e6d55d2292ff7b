"""The area-plot of Shivdeo et al. 2021: area of lung or infection in each slice along the volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from worker.reports import style
from worker.reports.style import Box, Rgb

_MARGIN_LEFT = 58


def draw_area_plot(
    draw: ImageDraw.ImageDraw,
    box: Box,
    title: str,
    area_mm2: NDArray[np.float64],
    colour: Rgb,
    current: int,
    ends: tuple[str, str],
) -> None:
    """Draw one curve of areas in cm2 along the slices, with a line at the slice shown.

    Parameters
    ----------
    area_mm2 : ndarray of float64
        One value for each slice, left to right.
    current : int
        The index of the slice shown.
    ends : tuple of str
        The labels of the left and the right end, such as F (feet) and H (head).

    Notes
    -----
    Shivdeo et al. 2021, section 5.3, normalise each curve to its largest value. Here the axis is labelled in cm2
    instead, so that the lung's and the infection's plots can each have their own scale.
    """
    left, top, right, bottom = box
    plot = (left + _MARGIN_LEFT, top + 26, right - 8, bottom)
    draw.text((plot[0], top), title, font=style.font(16), fill=style.MUTED)
    draw.text((plot[0] + 6, plot[1] + 2), ends[0], font=style.font(15), fill=style.MUTED)
    draw.text((plot[2] - 6, plot[1] + 2), ends[1], font=style.font(15), fill=style.MUTED, anchor="ra")
    highest = round_up(float(area_mm2.max(initial=0.0)) / 100.0)
    for share in (0.0, 0.5, 1.0):
        level = bottom - share * (bottom - plot[1])
        draw.line((plot[0], level, plot[2], level), fill=style.GRID)
        label = f"{share * highest:g}"
        draw.text((plot[0] - 8, level), label, font=style.font(15), fill=style.MUTED, anchor="rm")
    x = np.linspace(plot[0], plot[2], len(area_mm2))
    y = bottom - area_mm2 / 100.0 / highest * (bottom - plot[1])
    curve = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    filling = style.blend(colour, style.BACKGROUND, 0.35)
    draw.polygon([(plot[0], bottom), *curve, (plot[2], bottom)], fill=filling)
    draw.line(curve, fill=colour, width=2)
    draw.line((x[current], plot[1] - 4, x[current], bottom), fill=style.ACCENT, width=1)


def round_up(value: float) -> float:
    """Return the next round number for an axis: 1, 2, 3, 4, 5, 6, 8 or 10 times a power of ten; 1 for zero or less."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** np.floor(np.log10(value))
    return next(float(step * unit) for step in (1, 2, 3, 4, 5, 6, 8, 10) if value <= step * unit * (1 + 1e-9))
