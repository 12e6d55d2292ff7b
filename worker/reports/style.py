"""Colours and typeface of the key image, the trend and the page."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

Rgb = tuple[int, int, int]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""

BACKGROUND: Rgb = (13, 17, 23)
GRID: Rgb = (48, 54, 61)
TEXT: Rgb = (230, 237, 243)
MUTED: Rgb = (150, 160, 170)
ACCENT: Rgb = (250, 204, 60)
WARNING = "NOT FOR DIAGNOSTIC USE"


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in typeface, so that pictures are the same on every machine."""
    return ImageFont.load_default(size)


def blend(colour: Rgb, background: Rgb, share: float) -> Rgb:
    """Return a colour laid over a background with the opacity ``share``."""
    red, green, blue = (round(share * c + (1 - share) * b) for c, b in zip(colour, background, strict=True))
    return red, green, blue
