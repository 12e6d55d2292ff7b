"""How figures are formatted for readers, in all outputs alike."""

from __future__ import annotations


def format_percent(percent: float) -> str:
    """Return a percentage as text; a percentage above zero never reads as zero."""
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %"
