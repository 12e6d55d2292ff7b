"""The picture of infected volume and PoIR over the patient's studies."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ImageDraw

from worker.comparison import Exam
from worker.findings import Algorithm
from worker.reports.codes import INFECTION
from worker.reports.style import BACKGROUND
from worker.reports.trend import SIZE, draw_trend

THEN = datetime(2024, 3, 10, 10, 0)  # noqa: DTZ001 - DICOM's times often have no zone
NOW = Exam(THEN, Algorithm("Network", "2.1"), 2.0, "B31f", False, 4000.0, 200.0, 5.0, 2.0)
OLDEST, NEWEST = (200, 268), (1160, 130)
"""Where the points of the oldest and the newest study are drawn: (x, y) in pixels of the picture."""


def before(**time: float) -> Exam:
    return replace(NOW, taken_at=THEN - timedelta(**time), infection_volume_ml=100.0)


def test_a_study_compared_in_doubt_is_a_hollow_point_and_the_heading_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)
    doubtful = replace(before(days=9), slice_thickness_mm=3.5)

    picture = draw_trend([doubtful, before(days=3), NOW])

    assert "Hollow points are uncertain: slices are 2 mm thick now, and were 3.5 mm" in told
    assert picture.getpixel(OLDEST) == BACKGROUND
    assert picture.getpixel(NEWEST) == INFECTION.rgb


def test_a_doubt_that_several_studies_share_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)
    older, last, now = (replace(exam, kernel="") for exam in (before(days=9), before(days=3), NOW))

    draw_trend([replace(older, slice_thickness_mm=3.5), last, now])

    (heading,) = (words for words in told if words.startswith("Hollow points"))
    assert heading.count("neither study names") == 1
    assert heading.endswith("slices are 2 mm thick now, and were 3.5 mm")


def test_without_a_doubt_no_point_is_hollow(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)

    picture = draw_trend([before(days=9), NOW])

    assert not any("uncertain" in words for words in told)
    assert picture.getpixel(OLDEST) == INFECTION.rgb


@pytest.mark.parametrize(("minutes", "told"), [(10, "< 1 h"), (31, "-1 h"), (60 * 60, "-60 h"), (60 * 24 * 4, "-4 d")])
def test_how_long_before_is_told_in_hours_then_days(monkeypatch: pytest.MonkeyPatch, minutes: float, told: str) -> None:
    words = written(monkeypatch)

    draw_trend([before(minutes=minutes), NOW])

    assert told in words
    assert "2 studies that can be compared; time before this study" in words


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(1, 14_400), st.integers(1, 5_000_000)),  # minutes before: within ten days, or years
            st.one_of(st.just(0.0), st.floats(0, 5000)),
            st.one_of(st.none(), st.floats(0, 100)),
        ),
        max_size=30,
    )
)
@example([(525_600, 12.0, 0.3), (10_080, 120.0, 3.0), (7200, 180.0, 4.5), (2880, 210.0, 5.2)])
@example([(1, 9999.9, 100.0)] * 30)
def test_no_words_overprint_others_and_each_value_is_at_its_point(found: list[tuple[int, float, float | None]]) -> None:
    earlier = [
        replace(before(minutes=minutes), infection_volume_ml=volume, infected_percent=percent)
        for minutes, volume, percent in sorted(found, key=lambda study: -study[0])
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        boxes, points = drawn(monkeypatch)
        draw_trend([*earlier, NOW])

    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], f"{one} {a} overprints {other} {b}"
    assert all(min(a[:2]) >= 0 and a[2] <= SIZE[0] and a[3] <= SIZE[1] for _, a in boxes)
    xs = sorted({x for x, _ in points})
    assert len(points) == 2 * len(xs) == 2 * (len(earlier) + 1)
    values = [(a[0] + a[2]) / 2 for words, a in boxes if re.fullmatch(r"(< )?[\d.]+ (mL|%)", words)]
    assert all(min(abs(x - value) for x in xs) < 2 for value in values)
    assert len(values) == 2 * min(len(xs), 11) or len(xs) > 11


def test_time_is_to_scale_unless_studies_are_close(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)

    draw_trend([before(days=32), before(days=8), NOW])

    assert [told[when][0] for when in ("-32 d", "-8 d", "this study")] == [200, 920, 1160]
    assert "3 studies that can be compared; time before this study" in told


def test_close_studies_are_drawn_apart_and_the_heading_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)

    draw_trend([before(days=365), before(days=7), before(days=5), before(days=4), NOW])

    assert [told[when][0] for when in ("-365 d", "-7 d", "-5 d", "-4 d", "this study")] == [200, 884, 976, 1068, 1160]
    assert "5 studies that can be compared; time before this study, not to scale where studies are close" in told


def test_many_studies_at_even_distances_are_to_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)

    draw_trend([*(before(minutes=7 * minutes) for minutes in range(20, 0, -1)), NOW])

    assert "21 studies that can be compared; time before this study" in told


def test_of_more_studies_than_labels_fit_the_first_and_the_last_are_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)

    draw_trend([*(before(days=days) for days in range(30, 3, -1)), NOW])

    assert {"-30 d", "this study"} < set(told)
    assert len([words for words in told if words.endswith(" d")]) == 9


def drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[tuple[str, tuple[float, float, float, float]]], list[tuple[float, float]]]:
    """Return lists of all words drawn on pictures from now on, with their boxes, and of the centres of all points."""
    boxes: list[tuple[str, tuple[float, float, float, float]]] = []
    points: list[tuple[float, float]] = []
    draw_text, draw_ellipse = ImageDraw.ImageDraw.text, ImageDraw.ImageDraw.ellipse

    def text(draw: ImageDraw.ImageDraw, xy: tuple[float, float], words: str, **how: Any) -> None:
        shape = {key: how[key] for key in ("font", "anchor", "stroke_width") if key in how}
        if words:
            boxes.append((words, draw.textbbox(xy, words, **shape)))
        draw_text(draw, xy, words, **how)

    def ellipse(draw: ImageDraw.ImageDraw, xy: tuple[float, float, float, float], *how: Any) -> None:
        points.append(((xy[0] + xy[2]) / 2, (xy[1] + xy[3]) / 2))
        draw_ellipse(draw, xy, *how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    monkeypatch.setattr(ImageDraw.ImageDraw, "ellipse", ellipse)
    return boxes, points


def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """Return a dictionary of all texts drawn on pictures from now on, each with the place of its first drawing."""
    told: dict[str, tuple[float, float]] = {}
    draw_text = ImageDraw.ImageDraw.text

    def text(draw: ImageDraw.ImageDraw, xy: tuple[float, float], words: str, *args: Any, **how: Any) -> None:
        told.setdefault(words, xy)
        draw_text(draw, xy, words, *args, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return told
