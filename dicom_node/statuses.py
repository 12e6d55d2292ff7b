"""The statuses of DICOM messages: what Hilum answers, and what it takes from the answers of others."""

from __future__ import annotations

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
HELD_ALREADY = 0x0111
SOP_CLASS_NOT_SUPPORTED = 0x0122
"""Of all services, PS3.7 annex C."""

OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
WARNINGS = frozenset({0xB000, 0xB006, 0xB007})
"""Of C-STORE, PS3.4 table B.2-1; who warns keeps the instance."""

PENDING = frozenset({0xFF00, 0xFF01})
"""Of C-FIND, PS3.4 table C.4-1."""


def is_success(status: int) -> bool:
    """Success, or a warning with which the peer keeps the instance, or it holds that already.

    Some peers refuse duplicates (PS3.7 C.5.7). A result has the same UID only where it says the same, so what they hold
    is it, sent before, and their answer was lost.
    """
    return status in WARNINGS | {SUCCESS, HELD_ALREADY}


def is_passing(status: int) -> bool:
    """Out of resources, or a processing failure (PS3.7 C.5.5): worth trying again."""
    return status & 0xFF00 == OUT_OF_RESOURCES or status == PROCESSING_FAILURE
