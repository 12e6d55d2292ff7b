"""The trend: infected volume and PoIR of the patient's comparable studies over time."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from datetime import timedelta

from PIL import Image, ImageDraw

from dicom_node.figures import format_percent
from worker.comparison import Exam, doubts_between, elapsed, is_by_date
from worker.reports import codes, style
from worker.reports.areaplot import round_up
from worker.reports.style import WARNING, Box, Rgb
from worker.reports.view import text

SIZE = (1280, 860)
_PLOTS: tuple[Box, Box] = ((120, 130, 1240, 405), (120, 492, 1240, 767))
_DAY = timedelta(days=1)
_LABEL_WIDTH, _ROW = 80, 17
_LONGEST_LINE = 165
"""Number of characters that fit on a line below the title."""


def draw_trend(curve: Sequence[Exam]) -> Image.Image:
    """Return the picture of the studies in ``curve``, of which the last is this study.

    Times are relative to this study, and nothing identifies the patient. A study whose comparison with this study is
    uncertain is drawn as a hollow point, and the heading says why.
    """
    picture = Image.new("RGB", SIZE, style.BACKGROUND)
    draw = ImageDraw.Draw(picture)
    middle = SIZE[0] // 2
    draw.text((middle, 10), "Hilum   Trend", font=style.font(40), fill=style.TEXT, anchor="ma")
    told = f"{len(curve)} studies that can be compared; time before this study"
    doubts = [*(doubts_between(curve[-1], exam) for exam in curve[:-1]), []]
    reasons = "; ".join(dict.fromkeys(itertools.chain.from_iterable(reversed(doubts))))
    why = reasons and textwrap.shorten(f"Hollow points are uncertain: {reasons}", _LONGEST_LINE, placeholder=" ...")
    for y, line, size in ((54, told, 17), (77, why, 15)):
        draw.text((middle, y), line, font=style.font(size), fill=style.MUTED, anchor="ma")
    now = curve[-1].taken_at
    days = [elapsed(now, exam.taken_at) / _DAY for exam in curve if exam.taken_at and now]
    whens = [_when(exam, curve[-1]) for exam in curve]
    hollow = [bool(doubt) for doubt in doubts]
    volumes = [exam.infection_volume_ml for exam in curve]
    percents = [exam.infected_percent or 0.0 for exam in curve]
    labels = list(zip([f"{volume:.1f} mL" for volume in volumes], whens, strict=True))
    _plot(draw, _PLOTS[0], "Infected volume, mL", codes.INFECTION.rgb, days, volumes, labels, hollow)
    labels = list(zip([format_percent(percent) for percent in percents], whens, strict=True))
    _plot(draw, _PLOTS[1], "Proportion of infected region (PoIR), %", style.ACCENT, days, percents, labels, hollow)
    draw.text((middle, SIZE[1] - 24), WARNING, font=style.font(24), fill=style.ACCENT, anchor="mm")
    return picture


def _when(exam: Exam, now: Exam) -> str:
    """Return how long before this study another was: in hours, or in days from 3 days on or if a time is missing."""
    if exam is now or not (exam.taken_at and now.taken_at):
        return "this study"
    before = elapsed(now.taken_at, exam.taken_at)
    in_days = before / _DAY <= -3 or is_by_date(exam.taken_at, now.taken_at)
    hours = round(24 * before / _DAY)
    return f"{before / _DAY:.0f} d" if in_days else f"{hours} h" if hours else "< 1 h"


def _rows(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the row (0 to 2) of each point's labels, so that labels of close neighbours do not overlap."""
    rows = [0]
    for (x, _), (next_x, _) in zip(points[-2::-1], points[:0:-1], strict=True):
        rows.append(0 if next_x - x > _LABEL_WIDTH else (rows[-1] + 1) % 3)
    return rows[::-1]


def _plot(
    draw: ImageDraw.ImageDraw,
    box: Box,
    title: str,
    colour: Rgb,
    days: Sequence[float],
    values: Sequence[float],
    labels: Sequence[tuple[str, str]],
    hollow: Sequence[bool],
) -> None:
    """Draw values over days, each labelled with its value and its time."""
    left, top, right, bottom = box
    draw.text((left, top - 34), title, font=style.font(18), fill=style.MUTED)
    highest = round_up(max(values))
    for share in (0.0, 0.5, 1.0):
        level = bottom - share * (bottom - top)
        draw.line((left, level, right, level), fill=style.GRID)
        draw.text((left - 10, level), f"{share * highest:g}", font=style.font(16), fill=style.MUTED, anchor="rm")
    # A margin at both ends keeps the labels inside the box.
    scale = (right - left - 160) / max(-days[0], 1e-9)
    points = [
        (right - 80 + day * scale, bottom - value / highest * (bottom - top))
        for day, value in zip(days, values, strict=True)
    ]
    draw.line(points, fill=colour, width=3)
    for (x, y), (label, when), is_hollow, row in zip(points, labels, hollow, _rows(points), strict=True):
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), style.BACKGROUND if is_hollow else colour, colour, 2)
        at = y - 12 - _ROW * row if y - top > 40 + _ROW * row else y + 34 + _ROW * row
        text(draw, (x, at), label, 17, style.TEXT, "mb")
        draw.text((x, bottom + 8 + _ROW * row), when, font=style.font(16), fill=style.MUTED, anchor="ma")
