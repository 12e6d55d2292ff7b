"""The transitions of jobs: created, queued again, and given up (from then on the job only reports why)."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, select, update

from dicom_node.dispatch.notification import notification_of
from dicom_node.dispatch.received import StoredInstance
from dicom_node.dispatch.results import insert_notification
from dicom_node.errors import RejectedInput
from dicom_node.record.database import now
from dicom_node.record.schema import job_inputs, jobs
from dicom_node.settings import NotificationSettings
from dicom_node.study import Ending, JobKey, JobState

SUPERSEDED = "superseded"
"""The code of a job that a newer revision replaced before it was measured."""


def enqueue(
    connection: Connection,
    study_instance_uid: str,
    priority: str,
    inputs: Sequence[StoredInstance],
    series_instance_uid: str | None,
    rejection: RejectedInput | None,
) -> bool:
    """Record a job for these inputs unless the study's newest one has the same; return whether it was recorded.

    Runs in the transaction that settles the study. The new job supersedes earlier revisions that are still queued.
    If the newest job has the same inputs, and a removal has deleted its rows of inputs, it gets them back, so that it
    can be retried.
    """
    digest = input_sha256(inputs, rejection)
    of_study = jobs.c.study_instance_uid == study_instance_uid
    earlier = {row.input_sha256: row for row in connection.execute(select(jobs).where(of_study))}
    same = earlier.get(digest)
    if same and same.revision == len(earlier):
        held = select(job_inputs.c.instance_id).where(job_inputs.c.job_id == same.job_id).limit(1)
        if connection.scalar(held) is None:
            _insert_inputs(connection, same.job_id, inputs)
        return False
    if same:  # replaced by a newer revision; a study may have each digest only once, so the new revision takes it over
        connection.execute(update(jobs).where(jobs.c.job_id == same.job_id).values(input_sha256=same.job_id))
    job_id, time = str(uuid.uuid4()), now()
    connection.execute(
        update(jobs)
        .where(of_study, jobs.c.state == JobState.QUEUED)
        .values(
            state=JobState.SET_ASIDE,
            finished_at=time,
            code=SUPERSEDED,
            message="more images of the study came in before it was measured",
        )
    )
    connection.execute(
        jobs.insert().values(
            job_id=job_id,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            input_sha256=digest,
            revision=len(earlier) + 1,
            priority=priority,
            state=JobState.QUEUED,
            refusal_code=rejection.code if rejection else None,
            refusal_message=rejection.message if rejection else None,
            created_at=time,
            due_at=time,
        )
    )
    _insert_inputs(connection, job_id, inputs)
    return True


def _insert_inputs(connection: Connection, job_id: str, inputs: Sequence[StoredInstance]) -> None:
    connection.execute(job_inputs.insert(), [{"job_id": job_id, "instance_id": i.instance_id} for i in inputs])


def input_sha256(inputs: Sequence[StoredInstance], rejection: RejectedInput | None) -> str:
    """Return a digest that identifies a job: of the content of every instance, and the rejection's code if any."""
    digest = hashlib.sha256((rejection.code if rejection else "").encode())
    for line in sorted(f"{i.sop_instance_uid} {i.sha256}" for i in inputs):
        digest.update(line.encode())
    return digest.hexdigest()


def requeue(
    connection: Connection, which: Sequence[ColumnElement[bool]], due_at: float, *, code: str, message: str
) -> int:
    """Queue jobs again, marked as never rung for; return how many."""
    return connection.execute(
        update(jobs)
        .where(*which)
        .values(state=JobState.QUEUED, due_at=due_at, rung_at=None, lease_token=None, code=code, message=message)
    ).rowcount


def give_up(
    connection: Connection,
    which: Sequence[ColumnElement[bool]],
    notification: NotificationSettings,
    *,
    code: str,
    message: str,
) -> int:
    """Stop measuring; return how many jobs this concerns.

    A job is queued again as one that only reports why, so that the study is answered. A job that failed even at
    reporting becomes FAILED in the record, and the webhook is notified.
    """
    failed = connection.execute(
        update(jobs)
        .where(*which, jobs.c.refusal_code.is_not(None))
        .values(state=JobState.FAILED, finished_at=now(), lease_token=None, code=code, message=message)
        .returning(jobs.c.job_id, jobs.c.study_instance_uid, jobs.c.revision)
    ).all()
    ending = Ending(JobState.FAILED, code=code, message=message)
    for row in failed:
        if told := notification_of(notification, JobKey(*row), ending):
            insert_notification(connection, told, now())
    given_up = connection.execute(
        update(jobs)
        .where(*which, jobs.c.refusal_code.is_(None))
        .values(
            state=JobState.QUEUED,
            given_up=True,
            attempts=0,
            due_at=now(),
            rung_at=None,
            lease_token=None,
            refusal_code=code,
            refusal_message=f"measuring was tried several times and failed: {message}",
        )
    )
    return len(failed) + given_up.rowcount
