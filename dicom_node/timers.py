"""pynetdicom's timers on a monotonic clock.

pynetdicom's own timers read the wall clock. Setting it forward would end every open association; setting it back by
hours would let a peer that is gone keep its association for hours.
"""

from __future__ import annotations

from time import monotonic

import pynetdicom.dul
from pynetdicom.timer import Timer


class SteadyTimer(Timer):
    """pynetdicom's timer, used for ARTIM (PS3.8 9.1.5) and for the network's idle time."""

    @property
    def remaining(self) -> float:
        """Seconds until the timer expires; 1 if it never does, its timeout if it has not started."""
        if self.timeout is None or self._start_time is None:
            return super().remaining
        until = monotonic() if self._end_time is None else self._end_time
        return self.timeout - (until - self._start_time)

    def start(self) -> None:
        """Start the timer, or restart it from zero."""
        self._start_time, self._end_time = monotonic(), None

    def stop(self) -> None:
        """Stop the timer."""
        self._end_time = monotonic()


def use_steady_timers() -> None:
    """Give every association that begins from now on timers on a monotonic clock."""
    pynetdicom.dul.Timer = SteadyTimer  # type: ignore[attr-defined]  # pynetdicom offers no way to choose it
