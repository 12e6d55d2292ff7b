"""A circuit breaker: a peer that cannot be reached is left alone for a while. No clock is read: times are passed in."""

from __future__ import annotations

import random

FAILURES_TO_OPEN = 3
LONGEST_PAUSE_SECONDS = 60.0
"""One attempt a minute costs nothing, and soon notices that a PACS is back."""


class Breaker:
    """Counts failures in a row; from the third on, it lets one attempt through after each pause.

    Parameters
    ----------
    first_pause_seconds : float
        The pause doubles from here up to a minute, with jitter.
    """

    def __init__(self, first_pause_seconds: float) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._failures = 0
        self._open_until: float | None = None
        self._has_answered = False

    def is_open(self, time: float) -> bool:
        """Whether the peer is to be left alone; ``time`` is in seconds on a monotonic clock."""
        return self._open_until is not None and time < self._open_until

    def failed(self, time: float) -> None:
        """Take note that the peer could not be reached."""
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN:
            doublings = min(self._failures - FAILURES_TO_OPEN, 64)
            pause = min(self._first_pause_seconds * 2.0**doublings, LONGEST_PAUSE_SECONDS)
            # Jitter keeps several senders apart; it has no part in security.
            self._open_until = time + pause * random.uniform(0.5, 1.0)  # noqa: S311

    def succeeded(self) -> bool:
        """Take note that the peer answered; return whether the circuit was open before.

        It also returns True on the first success, because an earlier process may have left the circuit open.
        """
        was_open = self._open_until is not None or not self._has_answered
        self._failures, self._open_until, self._has_answered = 0, None, True
        return was_open
