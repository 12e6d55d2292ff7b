"""pynetdicom's timers on a clock that is never set.

Its own read the wall clock. Set forward, that would end every open association; set back by hours, it would let a peer
that is gone keep its association for hours.
"""

from __future__ import annotations

from time import monotonic

import pynetdicom.dul
from pynetdicom.timer import Timer


class SteadyTimer(Timer):
    """ARTIM or the network's idle time (PS3.8 9.1.5), as pynetdicom knows it."""

    @property
    def remaining(self) -> float:
        """Seconds until it expires; where it never does, 1."""
        if self.timeout is None or self._start_time is None:
            return super().remaining
        until = monotonic() if self._end_time is None else self._end_time
        return self.timeout - (until - self._start_time)

    def start(self) -> None:
        """Begin anew."""
        self._start_time, self._end_time = monotonic(), None

    def stop(self) -> None:
        """Stand still."""
        self._end_time = monotonic()


def use_steady_timers() -> None:
    """Let every association that begins from now on have steady timers."""
    pynetdicom.dul.Timer = SteadyTimer  # type: ignore[attr-defined]  # pynetdicom offers no way to choose it
