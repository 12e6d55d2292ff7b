"""The picture of infected volume and PoIR over the patient's studies."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from PIL import ImageDraw

from worker.comparison import Exam
from worker.findings import Algorithm
from worker.reports.style import BACKGROUND
from worker.reports.trend import draw_trend

THEN = datetime(2024, 3, 10, 10, 0)  # noqa: DTZ001 - DICOM's times often have no zone
NOW = Exam(THEN, Algorithm("Network", "2.1"), 2.0, "B31f", False, 4000.0, 200.0, 5.0, 2.0)


def before(**time: float) -> Exam:
    return replace(NOW, taken_at=THEN - timedelta(**time), infection_volume_ml=100.0)


def test_a_study_compared_in_doubt_is_a_hollow_point_and_the_heading_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)
    doubtful = replace(before(days=9), slice_thickness_mm=3.5)

    picture = draw_trend([doubtful, before(days=3), NOW])

    assert "Hollow points are uncertain: slices are 2.0 mm thick now, and were 3.5 mm" in told
    oldest, newest = (200, 275), (1160, 130)
    assert picture.getpixel(oldest) == BACKGROUND
    assert picture.getpixel(newest) != BACKGROUND


def test_a_doubt_that_several_studies_share_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)
    older, last, now = (replace(exam, kernel="") for exam in (before(days=9), before(days=3), NOW))

    draw_trend([replace(older, slice_thickness_mm=3.5), last, now])

    (heading,) = (words for words in told if words.startswith("Hollow points"))
    assert heading.count("neither study names") == 1
    assert heading.endswith("slices are 2.0 mm thick now, and were 3.5 mm")


def test_without_a_doubt_no_point_is_hollow(monkeypatch: pytest.MonkeyPatch) -> None:
    told = written(monkeypatch)

    picture = draw_trend([before(days=9), NOW])

    assert not any("uncertain" in words for words in told)
    assert picture.getpixel((200, 275)) != BACKGROUND


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is written on pictures from now on."""
    told: list[str] = []
    draw_text = ImageDraw.ImageDraw.text

    def text(draw: ImageDraw.ImageDraw, xy: tuple[float, float], words: str, *args: Any, **how: Any) -> None:
        told.append(words)
        draw_text(draw, xy, words, *args, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return told
