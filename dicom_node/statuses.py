"""The statuses of DICOM messages: those that Hilum answers with, and what the answers of others mean."""

from __future__ import annotations

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
HELD_ALREADY = 0x0111
SOP_CLASS_NOT_SUPPORTED = 0x0122
"""These four: statuses of all services, PS3.7 annex C."""

OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
WARNINGS = frozenset({0xB000, 0xB006, 0xB007})
"""These four: statuses of C-STORE, PS3.4 table B.2-1; a peer that answers with a warning keeps the instance."""

SENT_IN_PART = 0xB000
"""Status of C-MOVE and C-GET: complete, but some objects failed (PS3.4 tables C.4-2 and C.4-3)."""

PENDING = frozenset({0xFF00, 0xFF01})
"""Statuses of C-FIND, PS3.4 table C.4-1."""


def is_success(status: int) -> bool:
    """Whether the peer has the instance: success, a warning with which it keeps it, or a refused duplicate.

    Some peers refuse duplicates (PS3.7 C.5.7). Results share a UID only if they say the same, so the peer has received
    this one before, and its answer was lost.
    """
    return status in WARNINGS | {SUCCESS, HELD_ALREADY}


def is_passing(status: int) -> bool:
    """Whether it is worth trying again: out of resources, or a processing failure (PS3.7 C.5.5)."""
    return status & 0xFF00 == OUT_OF_RESOURCES or status == PROCESSING_FAILURE
