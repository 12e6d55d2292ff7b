"""The record of work: jobs, their leases, and how they end.

Every change of state is a compare-and-set, and only the holder of the lease's token can finish a job. So a job is
finished once, even if a message is delivered twice or a worker thought dead comes back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, Engine, case, exists, func, or_, select, update

from dicom_node.dispatch.notification import notification_of
from dicom_node.dispatch.priors import prior_reports
from dicom_node.dispatch.results import earlier_results, insert_notification, insert_results
from dicom_node.dispatch.transitions import give_up, requeue
from dicom_node.record.database import has_come, now, reading
from dicom_node.record.paths import as_file
from dicom_node.record.retention import is_kept
from dicom_node.record.schema import instances, job_inputs, jobs
from dicom_node.settings import JobSettings, NotificationSettings
from dicom_node.study import FINAL_JOB_STATES, Ending, Job, JobState, Priority, Result

CLOCK_SLACK_SECONDS = 5.0
"""How far a worker's clock may lag behind the node's. The node rings only for due jobs; a worker that considered such a
job not yet due would waste the bell, and the next one comes only after the sweep interval."""
NOBODY_IS_TOLD = NotificationSettings()


class Jobs:
    """Hands out jobs and takes their results; every method changes the record in one transaction.

    Parameters
    ----------
    notification : NotificationSettings, optional
        The webhook that is notified how jobs end; by default none.
    """

    def __init__(
        self, engine: Engine, settings: JobSettings, notification: NotificationSettings = NOBODY_IS_TOLD
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._notification = notification
        self._longest_pause_seconds = settings.retry_seconds * 2.0**settings.maximum_attempts

    def to_ring(self, count_unheard: Callable[[Priority], int]) -> list[tuple[str, Priority]]:
        """Return the due jobs to ring for, and mark them as rung for.

        These are the jobs never rung for. A job last rung for longer ago than the sweep interval is rung for again only
        if its queue holds fewer bells than there are waiting jobs that were rung for, so that some bells must have been
        lost. Without this condition, bells would pile up on a backlog.

        Parameters
        ----------
        count_unheard
            Returns how many bells a queue holds; called only for queues with jobs rung for longer ago than that.
        """
        time = now()
        sweep_seconds = self._settings.sweep_seconds
        waiting = jobs.c.state == JobState.QUEUED, has_come(jobs.c.due_at, time, self._longest_pause_seconds)
        never = jobs.c.rung_at.is_(None)
        long_ago = has_come(jobs.c.rung_at, time - sweep_seconds, 2 * sweep_seconds)
        counts = select(
            jobs.c.priority,
            func.count().filter(never).label("new"),
            func.count().filter(long_ago).label("overdue"),
            func.count().filter(jobs.c.rung_at.is_not(None)).label("ringing"),
        )
        with reading(self._engine) as connection:
            queues = connection.execute(counts.where(*waiting).group_by(jobs.c.priority)).all()
        again = [q.priority for q in queues if q.overdue and count_unheard(Priority(q.priority)) < q.ringing]
        if not again and not any(q.new for q in queues):
            return []
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(jobs)
                .where(not_locked(*waiting, or_(never, long_ago & jobs.c.priority.in_(again))))
                .values(rung_at=time)
                .returning(jobs.c.job_id, jobs.c.priority, jobs.c.created_at)
            )
            return [(row.job_id, Priority(row.priority)) for row in sorted(rows, key=lambda row: row.created_at)]

    def claim(self, job_id: str) -> Job | None:
        """Return the job if this caller now holds its lease; None if it is taken, done or not due.

        A revision waits until all earlier ones have ended, because its report names theirs.
        """
        time, token = now(), str(uuid.uuid4())
        before = jobs.alias()
        unfinished = exists().where(
            before.c.study_instance_uid == jobs.c.study_instance_uid,
            before.c.revision < jobs.c.revision,
            before.c.state.not_in(FINAL_JOB_STATES),
        )
        with self._engine.begin() as connection:
            row = connection.execute(
                update(jobs)
                .where(
                    jobs.c.job_id == job_id,
                    jobs.c.state == JobState.QUEUED,
                    has_come(jobs.c.due_at, time + CLOCK_SLACK_SECONDS, self._longest_pause_seconds),
                    ~unfinished,
                )
                .values(
                    state=JobState.RUNNING,
                    attempts=jobs.c.attempts + 1,
                    lease_token=token,
                    lease_until=time + self._settings.lease_seconds,
                    lease_seconds=self._settings.lease_seconds,
                    started_at=time,
                )
                .returning(jobs)
            ).one_or_none()
            if row is None:
                return None
            recorded_paths = connection.scalars(
                select(instances.c.path)
                .join(job_inputs, job_inputs.c.instance_id == instances.c.instance_id)
                .where(job_inputs.c.job_id == job_id)
                .order_by(instances.c.sop_instance_uid)
            ).all()
            paths = tuple(as_file(connection, path) for path in recorded_paths)
            earlier = earlier_results(connection, row.study_instance_uid)
            priors = prior_reports(connection, row.study_instance_uid)
        return Job(
            job_id=job_id,
            study_instance_uid=row.study_instance_uid,
            revision=row.revision,
            attempt=row.attempts,
            lease_token=token,
            paths=paths,
            refusal=(row.refusal_code, row.refusal_message) if row.refusal_code else None,
            earlier=earlier,
            priors=priors,
        )

    def renew(self, job: Job, stage: str) -> bool:
        """Renew the lease and record the stage; return False if the lease was lost."""
        prolonged = {"lease_until": now() + self._settings.lease_seconds, "stage": stage}
        with self._engine.begin() as connection:
            return connection.execute(update(jobs).where(*held_by(job)).values(prolonged)).rowcount == 1

    def finish(self, job: Job, ending: Ending, found: Sequence[Result], destinations: Sequence[str]) -> bool:
        """End a job and queue its deliveries and notification, all or nothing; return False if the lease was lost.

        Results that an earlier run already produced (the same SOP Instance UIDs) keep their first file.
        """
        time = now()
        with self._engine.begin() as connection:
            held = connection.execute(
                update(jobs)
                .where(*held_by(job))
                .values(
                    state=ending.state,
                    finished_at=time,
                    stage="",
                    code=ending.code,
                    message=ending.message,
                    infected_percent=ending.infected_percent,
                )
            )
            if held.rowcount == 0:
                return False
            insert_results(connection, job, found, destinations, time)
            if notification := notification_of(self._notification, job, ending, found):
                insert_notification(connection, notification, time)
        return True

    def give_back(self, job: Job, code: str, message: str) -> bool:
        """Queue a failed job again, or give it up if it was tried often enough; return False if the lease was lost.

        It is due after a pause that doubles with every attempt.
        """
        held = held_by(job)
        with self._engine.begin() as connection:
            if job.attempt >= self._settings.maximum_attempts:
                return give_up(connection, held, self._notification, code=code, message=message) == 1
            pause = self._settings.retry_seconds * 2 ** (job.attempt - 1)
            return requeue(connection, held, now() + pause, code=code, message=message) == 1

    def sweep(self) -> int:
        """Queue the jobs whose lease expired again, and give up those tried often enough; return how many in all."""
        length = func.coalesce(jobs.c.lease_seconds, self._settings.lease_seconds)  # null if an older Hilum claimed it
        ran_out = has_come(jobs.c.lease_until, now(), 2 * length)  # twice, because the hosts' clocks may differ
        lost = jobs.c.state == JobState.RUNNING, ran_out
        with reading(self._engine) as connection:
            if not connection.scalar(select(func.count()).select_from(jobs).where(*lost)):
                return 0
        spent = jobs.c.attempts >= self._settings.maximum_attempts
        free = not_locked(*lost)
        with self._engine.begin() as connection:
            message = "the workers that measured it stopped answering"
            given_up = give_up(connection, (free, spent), self._notification, code="worker-lost", message=message)
            return given_up + requeue(
                connection, (free, ~spent), now(), code="worker-lost", message="a worker stopped answering"
            )

    def retry(self, study_instance_uid: str) -> int:
        """Queue a study's newest revision again if it was given up or failed; return how many jobs were queued.

        Its attempts are reset. A job that was given up is measured again; one that selection refused only reports
        again. Nothing is queued if retention has removed the study's files.
        """
        keep_refusal = jobs.c.given_up.is_(False)
        of_study = jobs.alias()
        newest = select(func.max(of_study.c.revision)).where(of_study.c.study_instance_uid == study_instance_uid)
        with self._engine.begin() as connection:
            return connection.execute(
                update(jobs)
                .where(
                    jobs.c.study_instance_uid == study_instance_uid,
                    jobs.c.revision == newest.scalar_subquery(),
                    is_kept(jobs.c.job_id),
                    or_(jobs.c.state == JobState.FAILED, jobs.c.given_up & jobs.c.state.in_(FINAL_JOB_STATES)),
                )
                .values(
                    state=JobState.QUEUED,
                    given_up=False,
                    refusal_code=case((keep_refusal, jobs.c.refusal_code)),
                    refusal_message=case((keep_refusal, jobs.c.refusal_message)),
                    attempts=0,
                    due_at=now(),
                    rung_at=None,
                    finished_at=None,
                    code="",
                    message="",
                )
            ).rowcount


def not_locked(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition for jobs that meet these conditions and are not locked by another transaction.

    A transaction of a host that vanished may hold one job for a while; a statement that waited for it would hold up all
    others. SQLite locks no rows.
    """
    return jobs.c.job_id.in_(select(jobs.c.job_id).where(*which).with_for_update(skip_locked=True))


def held_by(job: Job) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that a job's row meets as long as this claim holds its lease."""
    return jobs.c.job_id == job.job_id, jobs.c.state == JobState.RUNNING, jobs.c.lease_token == job.lease_token
