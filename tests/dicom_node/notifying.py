"""Studies of whose outcome a webhook is notified, and the sending of these notifications."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from dicom_node.deliver.notifier import Notifications, Notifier
from dicom_node.dispatch.jobs import Jobs
from dicom_node.settings import DeliverySettings, JobSettings, Settings
from dicom_node.study import Ending, Job, JobState
from tests.dicom_node.recording import STUDY, make_job, results_of
from tests.dicom_node.webhooks import webhook

DONE = Ending(JobState.DONE, "found", 12.5)


def settings_with_webhook(folder: Path, port: int, **notification: Any) -> Settings:
    """Return settings with a webhook on this machine; see `webhook`."""
    return Settings.model_construct(
        delivery=DeliverySettings(first_retry_seconds=10, longest_retry_seconds=3600),
        notification=webhook(folder, port, **notification),
    )


def finish_job(record: Engine, job: Job, settings: Settings, ending: Ending = DONE, *to: str) -> bool:
    """End a claimed job, with a notification for the webhook; return whether it was still claimed."""
    found = results_of(job.study_instance_uid)
    return Jobs(record, JobSettings(), settings.notification).finish(job, ending, found, to)


def end_study(record: Engine, settings: Settings, study: str = STUDY, ending: Ending = DONE) -> None:
    """Record a study that has ended, with a notification for the webhook."""
    job = Jobs(record, JobSettings()).claim(make_job(record, study=study))
    assert job is not None
    assert finish_job(record, job, settings, ending)


def send_notifications(record: Engine, settings: Settings) -> None:
    """Send due notifications as a newly started process does."""
    Notifier(Notifications(record, settings), settings).turn(threading.Event())
