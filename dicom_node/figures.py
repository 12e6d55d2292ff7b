"""How a figure is told to a reader, wherever it is told."""

from __future__ import annotations


def format_percent(percent: float) -> str:
    """Return a percentage for a reader; what is not zero never reads as zero."""
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %"
