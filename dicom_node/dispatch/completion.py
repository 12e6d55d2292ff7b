"""Is this study whole? Pure functions: no clock, no database."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.study import StudyActivity


def is_whole(activity: StudyActivity, now: float, quiet_seconds: float, association_idle_seconds: float) -> bool:
    """Return whether a study has arrived in full, as far as anyone can tell.

    DICOM has no message that says "that was all". A study is taken as whole when none of its series has
    grown for ``quiet_seconds`` and no open association carries it; an association that has gone silent
    (a sender that hangs, or a node that died with it) carries a study only for ``association_idle_seconds``
    after its last image. All times are seconds since the epoch.
    """
    quiet = now - activity.last_instance_at >= quiet_seconds
    carried = activity.last_carried_at is not None and now - activity.last_carried_at < association_idle_seconds
    return quiet and not carried


@dataclass(frozen=True)
class Sighting:
    """When a study was first seen with its newest instance, and when the last look before was, on a monotonic clock."""

    last_instance_id: int
    seen_at: float
    other_at: float


class Watch:
    """Determines the age of a study's last image, even if the wall clock that stamped it is set meanwhile.

    The age by the wall clock is kept within bounds by a monotonic clock: at least the time since the study was first
    seen with this image, at most the time since the last look before.
    """

    def __init__(self) -> None:
        self._sightings: dict[str, Sighting] = {}
        self._looked_at = -math.inf

    def look(self, activities: Sequence[StudyActivity], now: float, steady: float) -> list[float]:
        """Return for each study the time to judge it by (``now`` of `is_whole`): that of its last image plus its age.

        Parameters
        ----------
        now, steady : float
            Seconds since the epoch, and seconds on a monotonic clock.
        """
        before = self._sightings
        self._sightings = {}
        times = []
        for activity in activities:
            sighting = before.get(activity.study_instance_uid)
            if sighting is None or sighting.last_instance_id != activity.last_instance_id:
                sighting = Sighting(activity.last_instance_id, steady, self._looked_at)
            self._sightings[activity.study_instance_uid] = sighting
            age = max(now - activity.last_instance_at, steady - sighting.seen_at)
            times.append(activity.last_instance_at + min(age, steady - sighting.other_at))
        self._looked_at = steady
        return times
