"""The picture of infected volume and PoIR over the patient's studies."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from PIL import ImageDraw

from worker.comparison import Exam
from worker.findings import Algorithm
from worker.reports.codes import INFECTION
from worker.reports.style import BACKGROUND
from worker.reports.trend import draw_trend

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


def test_labels_of_studies_close_to_each_other_stand_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    places = written(monkeypatch)

    draw_trend([before(days=30), before(hours=60), before(hours=50), before(minutes=20), NOW])

    whens = ("-30 d", "-60 h", "-50 h", "< 1 h", "this study")
    assert [places[when][1] for when in whens] == [413, 413, 447, 430, 413]


def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """Return a dictionary of all texts drawn on pictures from now on, each with the place of its first drawing."""
    told: dict[str, tuple[float, float]] = {}
    draw_text = ImageDraw.ImageDraw.text

    def text(draw: ImageDraw.ImageDraw, xy: tuple[float, float], words: str, *args: Any, **how: Any) -> None:
        told.setdefault(words, xy)
        draw_text(draw, xy, words, *args, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return told
