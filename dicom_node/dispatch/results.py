"""What a job ends with: results to deliver to every destination, and a notification."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, func, select

from dicom_node.record.notified import notification_number
from dicom_node.record.paths import as_file, as_recorded
from dicom_node.record.schema import deliveries, jobs, notifications, results
from dicom_node.study import REJECTION_NOTE, DeliveryState, Job, Notification, Result


def insert_results(
    connection: Connection, job: Job, found: Sequence[Result], destinations: Sequence[str], time: float
) -> None:
    """Enter a job's results into the outbox, except those that an earlier run entered: they keep their first file."""
    uids = [result.sop_instance_uid for result in found]
    known = set(connection.scalars(select(results.c.sop_instance_uid).where(results.c.sop_instance_uid.in_(uids))))
    answers = select(func.max(results.c.answer)).join(jobs).where(jobs.c.study_instance_uid == job.study_instance_uid)
    answer = 1 + (connection.scalar(answers) or 0)
    for position, result in enumerate(found):
        if result.sop_instance_uid in known:
            continue
        connection.execute(
            results.insert().values(
                sop_instance_uid=result.sop_instance_uid,
                job_id=job.job_id,
                answer=answer,
                sop_class_uid=result.sop_class_uid,
                transfer_syntax_uid=result.transfer_syntax_uid,
                kind=result.kind,
                position=position,
                path=as_recorded(connection, result.path),
            )
        )
        for destination in destinations:
            connection.execute(
                deliveries.insert().values(
                    sop_instance_uid=result.sop_instance_uid,
                    destination=destination,
                    state=DeliveryState.PENDING,
                    due_at=time,
                )
            )


def insert_notification(connection: Connection, notification: Notification, time: float) -> None:
    """Queue a notification, unless the job was retried and has ended as its last notification says.

    The job's second notification and those after it have their number at the end of their identifier.
    """
    of_job = notifications.c.job_id == notification.job_id
    number = notification_number(notifications.c.notification_id)
    known = list(connection.scalars(select(notifications.c.notification_id).where(of_job).order_by(number)))
    notification_id, body = notification.notification_id, notification.body
    if known:
        if known[-1].split(".")[:2] == notification_id.split("."):
            return
        notification_id = f"{notification_id}.{len(known) + 1}"
        body = json.dumps(json.loads(body) | {"id": notification_id})
    connection.execute(
        notifications.insert().values(
            notification_id=notification_id,
            job_id=notification.job_id,
            body=body,
            state=DeliveryState.PENDING,
            due_at=time,
        )
    )


def earlier_results(connection: Connection, study_instance_uid: str) -> tuple[Path, ...]:
    """Return the paths of the results of a study's newest answer, without rejection notes."""
    of_study = jobs.c.study_instance_uid == study_instance_uid
    rows = connection.execute(
        select(results.c.answer, results.c.path)
        .join(jobs)
        .where(of_study, results.c.kind != REJECTION_NOTE)
        .order_by(results.c.answer.desc(), results.c.position)
    ).all()
    return tuple(as_file(connection, row.path) for row in rows if row.answer == rows[0].answer)
