"""The notification that the webhook gets when a study has ended. It does not name the patient."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from dicom_node.record.database import now
from dicom_node.settings import NotificationSettings
from dicom_node.study import REPORT, Ending, JobKey, JobState, Notification, Result


def notification_of(
    settings: NotificationSettings, job: JobKey, ending: Ending, found: Sequence[Result] = ()
) -> Notification | None:
    """Return the notification of a study's end, or None if the settings do not ask for it."""
    percent = None if ending.infected_percent is None else round(ending.infected_percent, 2)  # as in the report
    threshold = settings.threshold_percent
    above = None if percent is None or threshold is None else percent > threshold
    is_withheld = ending.state == JobState.DONE and percent is None
    true_of_it = {str(ending.state), *(["above-threshold"] if above else []), *(["withheld"] if is_withheld else [])}
    if not settings.url or true_of_it.isdisjoint(settings.events):
        return None
    notification_id = f"{job.job_id}.{ending.state}"
    body = {
        "id": notification_id,
        "type": f"study.{ending.state}",
        "timestamp": datetime.fromtimestamp(now(), UTC).isoformat(timespec="seconds"),
        "data": {
            "study_instance_uid": job.study_instance_uid,
            "revision": job.revision,
            "outcome": ending.outcome or None,
            "infected_percent": percent,
            "above_threshold": above,
            "flags": ending.flags,
            "reason": {"code": ending.code, "message": ending.message} if ending.code else None,
            "report_sop_instance_uid": next((r.sop_instance_uid for r in found if r.kind == REPORT), None),
            "hilum_version": version("hilum"),
        },
    }
    return Notification(notification_id, job.job_id, job.study_instance_uid, json.dumps(body))
