"""The trend: infected volume and PoIR of the patient's comparable studies over time."""

from __future__ import annotations

import itertools
import math
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
_MARGIN = 80
"""Left and right of the points, which keeps the labels inside the plot."""
_LABEL_WIDTH = 90
_APART = 92
"""Studies closer to each other than this are drawn so far apart, if there is room, so that all can be labelled."""
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
    now = curve[-1].taken_at
    days = [elapsed(now, exam.taken_at) / _DAY for exam in curve if exam.taken_at and now]
    columns, is_to_scale = _columns(days)
    told = f"{len(curve)} studies that can be compared; time before this study"
    told += "" if is_to_scale else ", not to scale where studies are close"
    doubts = [*(doubts_between(curve[-1], exam) for exam in curve[:-1]), []]
    reasons = "; ".join(dict.fromkeys(itertools.chain.from_iterable(reversed(doubts))))
    why = reasons and textwrap.shorten(f"Hollow points are uncertain: {reasons}", _LONGEST_LINE, placeholder=" ...")
    for y, line, size in ((54, told, 17), (77, why, 15)):
        draw.text((middle, y), line, font=style.font(size), fill=style.MUTED, anchor="ma")
    whens = [_when(exam, curve[-1]) for exam in curve]
    hollow = [bool(doubt) for doubt in doubts]
    volumes = [exam.infection_volume_ml for exam in curve]
    percents = [exam.infected_percent or 0.0 for exam in curve]
    labels = list(zip([f"{volume:.1f} mL" for volume in volumes], whens, strict=True))
    _plot(draw, _PLOTS[0], "Infected volume, mL", codes.INFECTION.rgb, columns, volumes, labels, hollow)
    labels = list(zip([format_percent(percent) for percent in percents], whens, strict=True))
    _plot(draw, _PLOTS[1], "Proportion of infected region (PoIR), %", style.ACCENT, columns, percents, labels, hollow)
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


def _columns(days: Sequence[float]) -> tuple[list[float], bool]:
    """Return where each study stands from left to right, and whether all distances are to scale in time.

    Studies of the same week after one of last year would otherwise stand on top of each other.
    """
    left, _, right, _ = _PLOTS[0]
    width = right - left - 2 * _MARGIN
    gaps = [after - before for before, after in itertools.pairwise(days)]
    least = min(_APART, width / max(len(gaps), 1))
    rising = sorted(gaps)
    # Of the scales for each number of shortest gaps that are widened, the smallest is the one that fills the width.
    scales = [(width - count * least) / max(sum(rising[count:]), 1e-9) for count in range(len(gaps))]
    scale = min(scales, default=0)
    distances = [max(gap * scale, least) for gap in gaps]
    offsets = [sum(distances[index:]) for index in range(len(days))]
    return [right - _MARGIN - offset for offset in offsets], not scales or math.isclose(scale, scales[0])


def _labelled(columns: Sequence[float]) -> set[int]:
    """Return which studies are labelled: the newest, the oldest, and between them as many as there is room for."""
    labelled = [len(columns) - 1]
    for index in range(len(columns) - 2, 0, -1):
        if min(columns[labelled[-1]] - columns[index], columns[index] - columns[0]) >= _LABEL_WIDTH:
            labelled.append(index)
    return {0, *labelled}


def _plot(
    draw: ImageDraw.ImageDraw,
    box: Box,
    title: str,
    colour: Rgb,
    columns: Sequence[float],
    values: Sequence[float],
    labels: Sequence[tuple[str, str]],
    hollow: Sequence[bool],
) -> None:
    """Draw values from left to right, labelled with their values and times."""
    left, top, right, bottom = box
    draw.text((left, top - 34), title, font=style.font(18), fill=style.MUTED)
    highest = round_up(max(values))
    for share in (0.0, 0.5, 1.0):
        level = bottom - share * (bottom - top)
        draw.line((left, level, right, level), fill=style.GRID)
        draw.text((left - 10, level), f"{share * highest:g}", font=style.font(16), fill=style.MUTED, anchor="rm")
    points = [(x, bottom - value / highest * (bottom - top)) for x, value in zip(columns, values, strict=True)]
    draw.line(points, fill=colour, width=3)
    for (x, y), is_hollow in zip(points, hollow, strict=True):
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), style.BACKGROUND if is_hollow else colour, colour, 2)
    for index in _labelled(columns):
        (x, y), (label, when) = points[index], labels[index]
        text(draw, (x, y - 12 if y - top > 20 else y + 34), label, 17, style.TEXT, "mb")
        draw.text((x, bottom + 8), when, font=style.font(16), fill=style.MUTED, anchor="ma")
