"""Is this study whole? Pure: no clock, no database."""

from __future__ import annotations

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
