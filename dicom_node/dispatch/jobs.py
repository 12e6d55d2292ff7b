"""The record of work: jobs, their leases, and the results they end with.

Every change of state is a compare-and-set, so that a message delivered twice, or a worker thought dead that
comes back, does the work once: only the holder of the lease's token can finish a job.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Engine, case, exists, func, or_, select, update

from dicom_node.dispatch.priors import prior_reports
from dicom_node.errors import RejectedInput
from dicom_node.receive.intake import StoredInstance
from dicom_node.record.database import has_come, insert_if_absent, now, reading
from dicom_node.record.schema import deliveries, instances, job_inputs, jobs, notifications, results
from dicom_node.settings import JobSettings
from dicom_node.study import FINAL_JOB_STATES, DeliveryState, Job, JobState, Notification, Priority, Result

REJECTION_NOTE = "rejection-note"
"""The kind of result that withdraws others."""


def enqueue(
    connection: Connection,
    study_instance_uid: str,
    priority: str,
    inputs: Sequence[StoredInstance],
    series_instance_uid: str | None,
    rejection: RejectedInput | None,
) -> bool:
    """Record a job for these inputs unless one stands already; runs in the transaction that settles the study.

    It takes the place of an earlier revision that still waits.
    """
    digest = input_sha256(inputs, rejection)
    earlier = (
        connection.execute(select(jobs.c.input_sha256).where(jobs.c.study_instance_uid == study_instance_uid))
        .scalars()
        .all()
    )
    if digest in earlier:
        return False
    job_id, time = str(uuid.uuid4()), now()
    connection.execute(
        update(jobs)
        .where(jobs.c.study_instance_uid == study_instance_uid, jobs.c.state == JobState.QUEUED)
        .values(
            state=JobState.SET_ASIDE,
            finished_at=time,
            code="superseded",
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
    connection.execute(job_inputs.insert(), [{"job_id": job_id, "instance_id": i.instance_id} for i in inputs])
    return True


def input_sha256(inputs: Sequence[StoredInstance], rejection: RejectedInput | None) -> str:
    """Return what makes two jobs the same: the content of every instance, and the refusal if there is one."""
    digest = hashlib.sha256((rejection.code if rejection else "").encode())
    for line in sorted(f"{i.sop_instance_uid} {i.sha256}" for i in inputs):
        digest.update(line.encode())
    return digest.hexdigest()


class Jobs:
    """Hands out jobs and takes their results; every method is one transaction."""

    def __init__(self, engine: Engine, settings: JobSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._longest_pause_seconds = settings.retry_seconds * 2.0**settings.maximum_attempts

    def to_ring(self, count_unheard: Callable[[], int]) -> list[tuple[str, Priority]]:
        """Return the due jobs to ring for, and mark them rung.

        These are the jobs never rung for; and those rung for longer than the sweep interval ago, if the broker
        holds fewer bells than jobs wait, so that some must be lost. Else bells would pile up on a backlog.

        Parameters
        ----------
        count_unheard
            Returns how many bells the broker holds; asked only where it matters.
        """
        time = now()
        sweep_seconds = self._settings.sweep_seconds
        waiting = jobs.c.state == JobState.QUEUED, has_come(jobs.c.due_at, time, self._longest_pause_seconds)
        never = jobs.c.rung_at.is_(None)
        long_ago = has_come(jobs.c.rung_at, time - sweep_seconds, 2 * sweep_seconds)
        rung = jobs.c.rung_at.is_not(None)
        counts = select(func.count().filter(never), func.count().filter(long_ago), func.count().filter(rung))
        with reading(self._engine) as connection:
            new, overdue, ringing = connection.execute(counts.select_from(jobs).where(*waiting)).one()
        again = overdue > 0 and count_unheard() < ringing
        if not new and not again:
            return []
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(jobs)
                .where(*waiting, or_(never, long_ago) if again else never)
                .values(rung_at=time)
                .returning(jobs.c.job_id, jobs.c.priority)
            )
            return [(row.job_id, Priority(row.priority)) for row in rows]

    def claim(self, job_id: str) -> Job | None:
        """Return the job if this caller now holds its lease; None if it is taken, done or not due.

        A revision waits until the one before it has ended: its report names that one's.
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
                    has_come(jobs.c.due_at, time, self._longest_pause_seconds),
                    ~unfinished,
                )
                .values(
                    state=JobState.RUNNING,
                    attempts=jobs.c.attempts + 1,
                    lease_token=token,
                    lease_until=time + self._settings.lease_seconds,
                    started_at=time,
                )
                .returning(jobs)
            ).one_or_none()
            if row is None:
                return None
            paths = connection.scalars(
                select(instances.c.path)
                .join(job_inputs, job_inputs.c.instance_id == instances.c.instance_id)
                .where(job_inputs.c.job_id == job_id)
                .order_by(instances.c.sop_instance_uid)
            ).all()
            earlier = earlier_results(connection, row.study_instance_uid, row.revision)
            priors = prior_reports(connection, row.study_instance_uid)
        return Job(
            job_id=job_id,
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.series_instance_uid,
            revision=row.revision,
            priority=Priority(row.priority),
            attempt=row.attempts,
            lease_token=token,
            paths=tuple(Path(path) for path in paths),
            refusal=(row.refusal_code, row.refusal_message) if row.refusal_code else None,
            earlier=earlier,
            priors=priors,
        )

    def renew(self, job: Job, stage: str) -> bool:
        """Prolong the lease and note the stage; False if the lease was lost."""
        return self._update_held(job, lease_until=now() + self._settings.lease_seconds, stage=stage)

    def finish(
        self,
        job: Job,
        state: JobState,
        found: Sequence[Result],
        destinations: Sequence[str],
        *,
        code: str = "",
        message: str = "",
        infected_percent: float | None = None,
        notification: Notification | None = None,
    ) -> bool:
        """End a job; what is sent and told of it goes out, all or nothing; False if the lease was lost.

        Results that an earlier run with the same inputs already produced keep their first bytes.
        """
        time = now()
        with self._engine.begin() as connection:
            held = connection.execute(
                update(jobs)
                .where(
                    jobs.c.job_id == job.job_id,
                    jobs.c.state == JobState.RUNNING,
                    jobs.c.lease_token == job.lease_token,
                )
                .values(
                    state=state,
                    finished_at=time,
                    stage="",
                    code=code,
                    message=message,
                    infected_percent=infected_percent,
                )
            )
            if held.rowcount == 0:
                return False
            self._insert_results(connection, job, found, destinations, time)
            if notification:
                self._insert_notification(connection, notification, time)
        return True

    def _insert_notification(self, connection: Connection, notification: Notification, time: float) -> None:
        """A job that was retried and ended in the same way is not told again."""
        connection.execute(
            insert_if_absent(self._engine, notifications).values(
                notification_id=notification.notification_id,
                job_id=notification.job_id,
                body=notification.body,
                state=DeliveryState.PENDING,
                due_at=time,
            )
        )

    @staticmethod
    def _insert_results(
        connection: Connection, job: Job, found: Sequence[Result], destinations: Sequence[str], time: float
    ) -> None:
        uids = [result.sop_instance_uid for result in found]
        known = set(connection.scalars(select(results.c.sop_instance_uid).where(results.c.sop_instance_uid.in_(uids))))
        for position, result in enumerate(found):
            if result.sop_instance_uid in known:
                continue
            connection.execute(
                results.insert().values(
                    sop_instance_uid=result.sop_instance_uid,
                    job_id=job.job_id,
                    sop_class_uid=result.sop_class_uid,
                    transfer_syntax_uid=result.transfer_syntax_uid,
                    kind=result.kind,
                    position=position,
                    path=str(result.path),
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

    def give_back(self, job: Job, code: str, message: str) -> bool:
        """Queue a job again, later, after a failure; give it up when it was tried often enough."""
        held = (
            jobs.c.job_id == job.job_id,
            jobs.c.state == JobState.RUNNING,
            jobs.c.lease_token == job.lease_token,
        )
        with self._engine.begin() as connection:
            if job.attempt >= self._settings.maximum_attempts:
                return give_up(connection, held, code, message) == 1
            pause = self._settings.retry_seconds * 2 ** (job.attempt - 1)
            return requeue(connection, held, now() + pause, code=code, message=message) == 1

    def _update_held(self, job: Job, **values: object) -> bool:
        with self._engine.begin() as connection:
            held = connection.execute(
                update(jobs)
                .where(
                    jobs.c.job_id == job.job_id,
                    jobs.c.state == JobState.RUNNING,
                    jobs.c.lease_token == job.lease_token,
                )
                .values(**values)
            )
            return held.rowcount == 1

    def sweep(self) -> int:
        """Take back the jobs whose lease ran out, and give up those tried often enough; return how many."""
        # Twice the lease, for the hosts' clocks may differ.
        ran_out = has_come(jobs.c.lease_until, now(), 2 * self._settings.lease_seconds)
        lost = jobs.c.state == JobState.RUNNING, ran_out
        with reading(self._engine) as connection:
            if not connection.scalar(select(func.count()).select_from(jobs).where(*lost)):
                return 0
        spent = jobs.c.attempts >= self._settings.maximum_attempts
        with self._engine.begin() as connection:
            given_up = give_up(
                connection, (*lost, spent), "worker-lost", "the workers that measured it stopped answering"
            )
            return given_up + requeue(connection, lost, now(), code="worker-lost", message="a worker stopped answering")

    def retry(self, study_instance_uid: str) -> int:
        """Take up the newest revision again if it was given up or failed, with its attempts forgotten; return how many.

        What was given up is measured again; what selection refused is reported on again.
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


def earlier_results(connection: Connection, study_instance_uid: str, revision: int) -> tuple[Path, ...]:
    """Return where the objects of the newest answer before this revision lie, but for notes on others."""
    of_study = (
        jobs.c.study_instance_uid == study_instance_uid,
        jobs.c.revision < revision,
        results.c.kind != REJECTION_NOTE,
    )
    rows = connection.execute(
        select(jobs.c.revision, results.c.path)
        .join(results, results.c.job_id == jobs.c.job_id)
        .where(*of_study)
        .order_by(jobs.c.revision.desc(), results.c.position)
    ).all()
    return tuple(Path(row.path) for row in rows if row.revision == rows[0].revision)


def requeue(
    connection: Connection, which: Sequence[ColumnElement[bool]], due_at: float, *, code: str, message: str
) -> int:
    """Queue jobs again; their bell has not been rung."""
    return connection.execute(
        update(jobs)
        .where(*which)
        .values(state=JobState.QUEUED, due_at=due_at, rung_at=None, lease_token=None, code=code, message=message)
    ).rowcount


def give_up(connection: Connection, which: Sequence[ColumnElement[bool]], code: str, message: str) -> int:
    """Stop measuring: the job goes on as one that only reports why, so that the study is answered.

    A job that fails even at reporting is FAILED, and stands so in the record.
    """
    refusal = {
        "refusal_code": code,
        "refusal_message": f"measuring was tried several times and failed: {message}",
    }
    failed = connection.execute(
        update(jobs)
        .where(*which, jobs.c.refusal_code.is_not(None))
        .values(state=JobState.FAILED, finished_at=now(), lease_token=None, code=code, message=message)
    ).rowcount
    return (
        failed
        + connection.execute(
            update(jobs)
            .where(*which, jobs.c.refusal_code.is_(None))
            .values(
                state=JobState.QUEUED,
                given_up=True,
                attempts=0,
                due_at=now(),
                rung_at=None,
                lease_token=None,
                **refusal,
            )
        ).rowcount
    )
