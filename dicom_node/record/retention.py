"""Delete files of old studies, once every destination has the answers and, if it was asked to, committed to them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement, Connection, Engine, and_, bindparam, exists, or_, select, update

from dicom_node.beside import take_turns
from dicom_node.files import Files, remove_abandoned
from dicom_node.log import get_logger
from dicom_node.record.database import now, reading
from dicom_node.record.schema import (
    associations,
    deliveries,
    instances,
    job_inputs,
    jobs,
    results,
    series,
    studies,
)
from dicom_node.record.withdrawal import is_of_earlier_answer, withdrawn_at
from dicom_node.settings import Destination, Settings
from dicom_node.study import DeliveryState, JobState, StudyState

TURN_SECONDS = 60.0
FINISH_SECONDS = 3600.0
DAY_SECONDS = 86400.0
DEAD_SECONDS = 7 * DAY_SECONDS
"""An association that nobody closed, and that brought nothing that is kept, is forgotten after this: its node died."""
ARRIVING_SECONDS = 300.0
"""For so long after an image, more may arrive: a removal would leave the rest of the study to be measured alone."""
BATCH = 100
ANSWERED = (JobState.DONE, JobState.REFUSED, JobState.SET_ASIDE)
"""Final states after which files may be removed. If its newest revision is FAILED, the study has no answer and stays
until somebody has looked at it."""

HELD = exists().where(instances.c.association_id == associations.c.association_id)
"""The condition that an instance refers to an association."""

log = get_logger()


def is_kept(job_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that the files of a job's study are kept: removing them deletes the job's input rows."""
    return exists().where(job_inputs.c.job_id == job_id)


def went_nowhere() -> ColumnElement[bool]:
    """Return the condition that a result is of the newest answer to its study and has no delivery: nobody has it.

    A result of an earlier answer may have none, because the outbox deletes what a rejection note withdraws.
    """
    later = results.alias()
    return and_(
        ~exists().where(deliveries.c.sop_instance_uid == results.c.sop_instance_uid),
        ~exists().where(*is_of_earlier_answer(results, later)),
    )


@contextmanager
def disk_errors_logged(**fields: str) -> Iterator[None]:
    """Log an error of the disk and go on, so that one file that cannot be removed does not keep the others."""
    try:
        yield
    except OSError as error:
        log.warning("removal_failed", reason=error.strerror or type(error).__name__, **fields)


def forget_associations(connection: Connection, association_ids: Iterable[str]) -> None:
    """Delete those of the given associations that have ended and that no instance refers to."""
    this = associations.c.association_id == bindparam("this")
    gone = associations.delete().where(this, associations.c.closed_at.is_not(None), ~HELD)
    connection.execute(gone, [{"this": association_id} for association_id in association_ids])


class Retention:
    """Removes the files of delivered studies by age, and files left by dead processes; warns when the disk fills."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._files = Files(settings.storage.folder)
        self._finished_at = -math.inf

    def run(self, stop: threading.Event) -> None:
        """Call `turn` at intervals until told to stop."""
        take_turns(self.turn, stop, TURN_SECONDS, "retention_failed")

    def turn(self) -> None:
        """Check the space left on the disk, and remove what may be removed."""
        free = self._files.free_bytes()
        if free < self._settings.storage.warn_free_gib * 2**30:
            log.warning("disk_low", bytes=free)
        if abs(now() - self._finished_at) >= FINISH_SECONDS:  # a clock may be set back
            self.remove_abandoned()
            self.finish()
            self.forget_dead_associations()
            self._finished_at = now()
        if self._settings.storage.keep_days is not None:
            before = now() - self._settings.storage.keep_days * DAY_SECONDS
            for study in self.due(before):
                with disk_errors_logged(study_instance_uid=study):
                    self.remove(study, before)

    def remove_abandoned(self) -> None:
        """Remove files that killed processes left half written."""
        removed = 0
        for part, study in self._files.half_written():
            with disk_errors_logged(study_instance_uid=study):
                removed += remove_abandoned(part)
        if removed:
            log.info("abandoned_removed", instances=removed)

    def due(self, before: float) -> list[str]:
        """Return some studies that may be removed: answered, delivered, and without activity since ``before``."""
        query = select(studies.c.study_instance_uid).where(self._may_go(before)).limit(BATCH)
        with reading(self._engine) as connection:
            return list(connection.scalars(query))

    def remove(self, study_instance_uid: str, before: float = math.inf) -> bool:
        """Remove a study's files if it may be removed; return whether it was.

        The rows of the study, its jobs, results and deliveries stay in the record. The rows of its instances are
        deleted before their files: an interrupted removal leaves files without a row, but no row without its file.
        """
        of_study = instances.c.study_instance_uid == study_instance_uid
        inputs = job_inputs.c.instance_id.in_(select(instances.c.instance_id).where(of_study))
        this = studies.c.study_instance_uid == study_instance_uid
        with self._engine.begin() as connection:
            connection.execute(select(studies.c.state).where(this).with_for_update())
            removed_at = now()
            may_go = update(studies).where(this, self._may_go(before)).values(removed_at=removed_at)
            if connection.execute(may_go).rowcount == 0:
                return False
            connection.execute(job_inputs.delete().where(inputs))
            removed = instances.delete().where(of_study).returning(instances.c.association_id)
            forget_associations(connection, sorted(set(connection.scalars(removed))))
            connection.execute(series.delete().where(series.c.study_instance_uid == study_instance_uid))
        self._files.remove_study(study_instance_uid, removed_at)
        log.info("study_removed", study_instance_uid=study_instance_uid)
        return True

    def finish(self) -> None:
        """Remove files left of removed studies: the removal was interrupted, or the files were too new then."""
        held = exists().where(instances.c.study_instance_uid == studies.c.study_instance_uid)
        query = select(studies.c.study_instance_uid).where(studies.c.removed_at.is_not(None), ~held)
        with reading(self._engine) as connection:
            removed = connection.scalars(query).all()
        for study_instance_uid in self._files.with_files(removed):
            with disk_errors_logged(study_instance_uid=study_instance_uid):
                self._files.remove_study(study_instance_uid, now())

    def forget_dead_associations(self) -> None:
        """Delete old associations that nobody closed and that no instance refers to.

        One that is alive all the same is recorded again with the next instance that it brings.
        """
        old = associations.c.closed_at.is_(None), associations.c.opened_at < now() - DEAD_SECONDS
        with self._engine.begin() as connection:
            connection.execute(associations.delete().where(*old, ~HELD))

    def why_kept(self, study_instance_uid: str) -> list[str]:
        """Return what keeps `remove` from removing a study's files now; nothing if it would remove them."""
        holds = self._holds(math.inf)
        query = select(*holds.values()).where(studies.c.study_instance_uid == study_instance_uid)
        with reading(self._engine) as connection:
            return [why for why, is_so in zip(holds, connection.execute(query).one(), strict=True) if is_so]

    def _may_go(self, before: float) -> ColumnElement[bool]:
        return and_(*(~hold for hold in self._holds(before).values()))

    def _holds(self, before: float) -> dict[str, ColumnElement[bool]]:
        """Return the conditions that each keep a study's files, by what they mean to somebody who wants them removed.

        Any activity since ``before`` keeps them too.
        """
        of_study = jobs.c.study_instance_uid == studies.c.study_instance_uid
        received = exists().where(instances.c.study_instance_uid == studies.c.study_instance_uid)
        newer = jobs.alias()
        replaced = exists().where(
            newer.c.study_instance_uid == jobs.c.study_instance_uid, newer.c.revision > jobs.c.revision
        )
        unanswered = and_(jobs.c.state.not_in(ANSWERED), ~and_(jobs.c.state == JobState.FAILED, replaced))
        delivery = exists().where(
            deliveries.c.sop_instance_uid == results.c.sop_instance_uid, results.c.job_id == jobs.c.job_id, of_study
        )
        asked = [d.name for d in self._settings.destinations if isinstance(d, Destination) and d.storage_commitment]
        uncommitted = and_(
            deliveries.c.destination.in_(asked),
            deliveries.c.committed_at.is_(None),
            is_kept(jobs.c.job_id),
            ~withdrawn_at(deliveries.c.destination),
        )
        arriving = received.where(instances.c.stored_at >= min(before, now() - ARRIVING_SECONDS))
        return {
            "none of its images are left": ~received,
            "its images are arriving, or were within the last five minutes": or_(
                studies.c.state == StudyState.RECEIVING, arriving
            ),
            "it has no answer yet": exists().where(of_study, or_(unanswered, jobs.c.finished_at >= before)),
            "its answer went nowhere, because its worker knew no [[destinations]]": exists().where(
                results.c.job_id == jobs.c.job_id, of_study, went_nowhere()
            ),
            "not every PACS has accepted every result": delivery.where(
                or_(deliveries.c.state != DeliveryState.SENT, deliveries.c.sent_at >= before)
            ),
            "not every PACS has promised to keep the results (storage_commitment)": delivery.where(uncommitted),
        }
