"""Studies on which the dispatcher broke: each is left alone for a while. Pure: the time is handed in."""

from __future__ import annotations

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
"""Each attempt may take much memory and time from the other studies; what is mended is noticed soon enough."""
OUTSIDE_PAUSE_SECONDS = 10.0
"""What fails for all studies, such as a storage that is not mounted, is soon noticed to be back."""


class Setbacks:
    """Counts how often in a row each study broke the dispatcher; the pause doubles with each time."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def is_left_alone(self, study_instance_uid: str, time: float) -> bool:
        """Whether a study has to wait; ``time`` is in seconds, on a clock that is never set."""
        return time < self._until.get(study_instance_uid, time)

    def broke(self, study_instance_uid: str, time: float) -> None:
        """Take note that a study broke the dispatcher."""
        before = self.times(study_instance_uid)
        self._times[study_instance_uid] = before + 1
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(before, 64), LONGEST_PAUSE_SECONDS)
        self._until[study_instance_uid] = time + pause

    def wait(self, study_instance_uid: str, time: float) -> None:
        """Leave a study alone for a moment, for something that is no fault of its own and does not count."""
        self._until[study_instance_uid] = time + OUTSIDE_PAUSE_SECONDS

    def times(self, study_instance_uid: str) -> int:
        """Return how often in a row a study broke the dispatcher."""
        return self._times.get(study_instance_uid, 0)

    def went_well(self, study_instance_uid: str) -> None:
        """Forget what was noted of a study."""
        self._times.pop(study_instance_uid, None)
        self._until.pop(study_instance_uid, None)
