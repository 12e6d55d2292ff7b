"""Studies whose dispatch failed: each is left alone for a while. No clock is read: the time is passed in."""

from __future__ import annotations

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
"""Each attempt may take much memory and time from other studies; after a repair, this pause is short enough."""
OUTSIDE_PAUSE_SECONDS = 10.0
"""The pause after a failure that concerns all studies, such as storage that is not mounted; short, so that studies go
on soon after it is back."""


class Setbacks:
    """Counts how often in a row the dispatch of each study failed; the pause doubles each time."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def is_left_alone(self, study_instance_uid: str, time: float) -> bool:
        """Whether a study has to wait; ``time`` is in seconds on a monotonic clock."""
        return time < self._until.get(study_instance_uid, time)

    def broke(self, study_instance_uid: str, time: float) -> None:
        """Take note that the dispatch of a study failed."""
        before = self.times(study_instance_uid)
        self._times[study_instance_uid] = before + 1
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(before, 64), LONGEST_PAUSE_SECONDS)
        self._until[study_instance_uid] = time + pause

    def wait(self, study_instance_uid: str, time: float) -> None:
        """Leave a study alone for a moment after a failure that is not its own, and is not counted."""
        self._until[study_instance_uid] = time + OUTSIDE_PAUSE_SECONDS

    def times(self, study_instance_uid: str) -> int:
        """Return how often in a row the dispatch of a study failed."""
        return self._times.get(study_instance_uid, 0)

    def went_well(self, study_instance_uid: str) -> None:
        """Forget a study's failures."""
        self._times.pop(study_instance_uid, None)
        self._until.pop(study_instance_uid, None)
