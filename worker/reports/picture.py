"""The picture of a result: the slices with most infection, a coronal view, the figures and the area-plots."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw

from dicom_node.figures import format_percent
from worker.findings import Findings, Measurement, Site
from worker.reports import codes, style
from worker.reports.areaplot import draw_area_plot
from worker.reports.planes import AXIAL, CORONAL, Plane, X, Y, Z
from worker.reports.style import WARNING, Box
from worker.reports.view import LUNG_WINDOW_HU, Scene, draw_level, draw_view, look_at, text
from worker.volume import Volume

SIZE = (1280, 1302)

_SLICE_BOX: Box = (16, 84, 796, 664)
_CROSS_BOX: Box = (812, 84, 1264, 664)
_FURTHER_BOXES: tuple[Box, ...] = tuple((left, 676, left + 303, 906) for left in range(16, 1264, 315))
_FURTHER_NOTE = (640, 791)
_LUNG_PLOT_BOX: Box = (16, 926, 796, 1068)
_INFECTION_PLOT_BOX: Box = (16, 1088, 796, 1230)
_TABLE_BOX: Box = (812, 926, 1264, 1254)
_FLAG_LINES = 5
"""Number of lines of flag messages that fit."""

_APART_MM = 15.0
"""Smallest distance between the slices shown, since neighbouring slices look alike."""


def slices_of_picture(findings: Findings) -> list[int]:
    """Return the indices of the slices with the largest infected area, largest first; without infection, lung area."""
    areas = findings.areas
    areas_mm2 = areas.infection_mm2 if areas.infection_mm2.any() else areas.lung_mm2
    apart = _APART_MM / findings.geometry.spacing_mm[0]
    chosen: list[int] = []
    for index in map(int, np.argsort(-areas_mm2, kind="stable")):
        is_apart = all(abs(index - other) >= apart for other in chosen)
        if not chosen or (areas_mm2[index] and is_apart and len(chosen) <= len(_FURTHER_BOXES)):
            chosen.append(index)
    return chosen


def draw_picture(volume: Volume, findings: Findings) -> Image.Image:
    """Return the picture of a result as RGB; nothing written on it identifies the patient."""
    picture = Image.new("RGB", SIZE, style.BACKGROUND)
    draw = ImageDraw.Draw(picture)
    scene = look_at(volume, findings)
    index, *further = slices_of_picture(findings)
    _draw_views(picture, scene, scene.level(index))
    low, high = LUNG_WINDOW_HU
    told = f"{slice_number(volume, index)}\n{_height(volume, index)}   W {high - low:.0f} / L {(low + high) / 2:.0f}"
    text(draw, (_SLICE_BOX[0] + 12, _SLICE_BOX[3] - 12), told, 16, style.TEXT, "ld")
    for box, other in zip(_FURTHER_BOXES, further, strict=False):
        draw_view(picture, box, scene, AXIAL, scene.level(other))
        text(draw, (box[0] + 8, box[3] - 8), slice_number(volume, other), 14, style.TEXT, "lb")
        text(draw, (box[2] - 8, box[1] + 10), _height(volume, other), 14, style.TEXT, "rt")
    if findings.has_infection and not further:
        text(draw, _FURTHER_NOTE, f"No infection {_APART_MM:.0f} mm or more from this slice.", 17, style.MUTED, "mm")
    for box, what, area_mm2, colour in (
        (_LUNG_PLOT_BOX, "Lung area", findings.areas.lung_mm2, style.MUTED),
        (_INFECTION_PLOT_BOX, "Infected area", findings.areas.infection_mm2, codes.INFECTION.rgb),
    ):
        draw_area_plot(draw, box, f"{what} of each slice, cm2", area_mm2, colour, index, scene.ends)
    _draw_header(draw, findings)
    _draw_table(draw, findings)
    _draw_footer(draw, findings)
    return picture


def _draw_views(picture: Image.Image, scene: Scene, at: int) -> None:
    """Draw the slice and a coronal plane beside it, each with a line where the other plane crosses it."""
    coronal_at = _index_of_most(scene, CORONAL)
    place = draw_view(picture, _SLICE_BOX, scene, AXIAL, at)
    coronal_place = draw_view(picture, _CROSS_BOX, scene, CORONAL, coronal_at)
    draw_level(picture, _SLICE_BOX, place, _share_from_top(scene, CORONAL, coronal_at))
    draw_level(picture, _CROSS_BOX, coronal_place, _share_from_top(scene, AXIAL, at))


def _index_of_most(scene: Scene, plane: Plane) -> int:
    """Return the index at which the plane shows most infection, or most lung if there is no infection."""
    shown = scene.infection if scene.infection.any() else scene.labels
    others = tuple(axis for axis in (X, Y, Z) if axis != plane.axis)
    return int(np.argmax(np.count_nonzero(shown, axis=others))) + scene.origin[plane.axis]


def _share_from_top(scene: Scene, plane: Plane, at: int) -> float:
    """Return where a plane crosses the other view, as a share of that view's height from the top, 0 to 1.

    The coronal view has the head up, the axial view the back down.
    """
    share: float = (at - scene.origin[plane.axis] + 0.5) / scene.hu.shape[plane.axis]
    return 1 - share if plane.axis == Z else share


def _height(volume: Volume, index: int) -> str:
    _, _, z = volume.geometry.to_patient(np.array([[index, *(n / 2 for n in volume.geometry.shape[1:])]]))[0]
    return f"z = {z:.1f} mm"


def slice_number(volume: Volume, index: int) -> str:
    """Return the number under which viewers show a slice; empty if its series does not number all slices uniquely.

    Frames are numbered within their object, single-frame slices by Instance Number (PS3.3 C.7.6.1). Instance Numbers
    need not begin at 1 nor at the feet, so the total is added only if they run from 1 without a gap.
    """
    count, shown = len(volume.slices), volume.slices[index]
    if shown.frame_number is not None:
        return f"Frame {shown.frame_number} of {count}"
    numbers = {slice_.instance_number for slice_ in volume.slices}
    if None in numbers or len(numbers) < count:
        return ""
    of_all = f" of {count}" if numbers == set(range(1, count + 1)) else ""
    return f"Image {shown.instance_number}{of_all}"


def _draw_header(draw: ImageDraw.ImageDraw, findings: Findings) -> None:
    """Write the result in the middle, because viewers write over the corners."""
    both = findings.measurement("both")
    if both.infected_percent is None:
        answer = "withheld"
    elif both.infected_percent == 0:
        answer = "0 %  nothing found"
    else:
        answer = format_percent(both.infected_percent)
    middle = SIZE[0] // 2
    draw.text((middle, 10), f"Hilum   PoIR {answer}", font=style.font(40), fill=style.TEXT, anchor="ma")
    meaning = "Proportion of infected region in CT of the chest"
    draw.text((middle, 56), meaning, font=style.font(17), fill=style.MUTED, anchor="ma")


def _draw_table(draw: ImageDraw.ImageDraw, findings: Findings) -> None:
    left, top, right, _ = _TABLE_BOX
    columns = (left + 165, left + 270, left + 345, right)
    for x, heading in zip(columns, ("Lung mL", "Infected mL", "PoIR", "Infected HU"), strict=True):
        draw.text((x, top), heading, font=style.font(16), fill=style.MUTED, anchor="ra")
    y = top + 28
    rows: tuple[tuple[str, Site], ...] = (("Both lungs", "both"), ("Right lung", "right"), ("Left lung", "left"))
    for name, site in rows:
        cells = _cells(findings.measurement(site))
        draw.text((left, y), name, font=style.font(18), fill=style.TEXT)
        for x, cell in zip(columns, cells, strict=True):
            draw.text((x, y), cell, font=style.font(18), fill=style.TEXT, anchor="ra")
        y += 30
    y += 4
    draw.text((left, y), _severity(findings), font=style.font(18), fill=style.TEXT)
    y += 34
    for structure in (codes.INFECTION, codes.RIGHT_LUNG, codes.LEFT_LUNG):
        draw.line((left, y + 10, left + 28, y + 10), fill=structure.rgb, width=4)
        draw.text((left + 40, y), structure.label, font=style.font(16), fill=style.TEXT)
        y += 24
    y += 6
    for line in flag_lines(findings, right - left):
        draw.text((left, y), line, font=style.font(15), fill=style.ACCENT)
        y += 20


def _severity(findings: Findings) -> str:
    if findings.severity is None:
        return "Severity withheld"
    zones = findings.severity.six_zone_score
    told = "no six-zone score" if zones is None else f"six zones {zones} of 24"
    return f"Severity {findings.severity.whole_lung_score} of 5, {told}"


def _cells(figures: Measurement) -> tuple[str, str, str, str]:
    percent, hu = figures.infected_percent, figures.infection_mean_hu
    return (
        f"{figures.lung_volume_ml:.0f}",
        f"{figures.infection_volume_ml:.1f}",
        "withheld" if percent is None else format_percent(percent),
        "-" if hu is None else f"{hu:.0f}",
    )


def flag_lines(findings: Findings, width: int) -> list[str]:
    """Return as many whole flag messages as fit, wrapped into lines; flags that withhold the percentage come first."""
    lines: list[str] = []
    flags = sorted(findings.flags, key=lambda flag: not flag.withholds_percentage)
    for flag in flags:
        message = textwrap.wrap(flag.message, width // 8)
        room = _FLAG_LINES if flag is flags[-1] else _FLAG_LINES - 1
        if len(lines) + len(message) > room:
            return [*lines, "More in the report."]
        lines += message
    return lines


def _draw_footer(draw: ImageDraw.ImageDraw, findings: Findings) -> None:
    y, middle = SIZE[1] - 24, SIZE[0] // 2
    made_by = f"Made automatically by {findings.algorithm.name} {findings.algorithm.version}"
    draw.text((middle - 12, y), made_by, font=style.font(15), fill=style.MUTED, anchor="rm")
    draw.text((middle + 12, y), WARNING, font=style.font(24), fill=style.ACCENT, anchor="lm")
