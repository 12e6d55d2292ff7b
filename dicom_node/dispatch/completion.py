"""Is this study whole? No clock is read, and no database: times are passed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.study import StudyActivity


@dataclass(frozen=True)
class Ages:
    """Seconds since the newest instance of a study came, and since an open association last brought one of them."""

    newest: float
    carried: float = math.inf
    """Infinite if no association that brought one is open."""


def is_whole(ages: Ages, quiet_seconds: float, association_idle_seconds: float) -> bool:
    """Return whether a study has arrived in full, as far as anyone can tell.

    DICOM has no message that says "that was all". A study is taken as whole when none of its series has
    grown for ``quiet_seconds`` and no open association carries it; an association that has gone silent
    (a sender that hangs, or a node that died with it) carries a study only for ``association_idle_seconds``
    after its last image.
    """
    return ages.newest >= quiet_seconds and ages.carried >= association_idle_seconds


@dataclass(frozen=True)
class Sighting:
    """When a time stamp was first seen, and when the last look before was, on a monotonic clock."""

    seen_at: float
    before: float


class Watch:
    """Determines how long ago studies grew, even if the wall clock that stamped their images is set meanwhile.

    An age by the wall clock is kept within bounds by a monotonic clock: at least the time since the stamp was first
    seen, at most the time since the last look before.
    """

    def __init__(self) -> None:
        self._sightings: dict[tuple[str, str, float], Sighting] = {}
        self._looked_at = -math.inf

    def look(self, activities: Sequence[StudyActivity], now: float, steady: float) -> list[Ages]:
        """Return each study's ages.

        Parameters
        ----------
        now, steady : float
            Seconds since the epoch, and seconds on a monotonic clock.
        """
        before, self._sightings = self._sightings, {}

        def age(stamp: tuple[str, str, float], stamped_at: float) -> float:
            sighting = self._sightings[stamp] = before.get(stamp, Sighting(steady, self._looked_at))
            return min(max(now - stamped_at, steady - sighting.seen_at), steady - sighting.before)

        ages = []
        for activity in activities:
            uid, carried_at = activity.study_instance_uid, activity.last_carried_at
            newest = age((uid, "newest", activity.last_instance_id), activity.last_instance_at)
            carried = math.inf if carried_at is None else age((uid, "carried", carried_at), carried_at)
            ages.append(Ages(newest, carried))
        self._looked_at = steady
        return ages
