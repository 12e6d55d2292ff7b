"""Write received associations, studies and instances to the record."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Engine, and_, bindparam, exists, null, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql.elements import ClauseElement

from dicom_node.headers import CT_STORAGE
from dicom_node.receive.turn import Turn
from dicom_node.record.database import insert_if_absent, now
from dicom_node.record.paths import as_recorded
from dicom_node.record.retention import forget_associations
from dicom_node.record.schema import associations, instances, jobs, results, studies
from dicom_node.study import Association, Instance, JobState, Priority, Reception, StudyState

# These statements run for every instance. On PostgreSQL, LOCK first locks the study's row, so that two senders of one
# study take turns. KNOWN is a statement of its own because a statement sees what was committed when it began, not what
# was committed while it waited for a lock. SQLite has only one writer anyway.
ITS_STUDY = studies.c.study_instance_uid == bindparam("study")
LOCK = select(studies.c.state).where(ITS_STUDY).with_for_update()
KNOWN = (
    select(studies.c.state, studies.c.priority, studies.c.conflicting, studies.c.reason, instances.c.sha256)
    .select_from(studies)
    .outerjoin(
        instances,
        and_(
            instances.c.study_instance_uid == studies.c.study_instance_uid,
            instances.c.sop_instance_uid == bindparam("sop"),
        ),
    )
    .where(ITS_STUDY)
)
OWN = select(results.c.sop_instance_uid).where(results.c.sop_instance_uid == bindparam("sop"))
INSERT = instances.insert().values({c.name: bindparam(c.name) for c in instances.c if c.name != "instance_id"})
CHANGED = "state", "priority", "conflicting", "reason"
CHANGE = update(studies).where(ITS_STUDY).values({name: bindparam(name) for name in CHANGED})
KNOWN_INSTANCE = (
    instances.c.study_instance_uid == bindparam("study"),
    instances.c.sop_instance_uid == bindparam("sop"),
    instances.c.sha256 == bindparam("content"),
)
AGAIN = update(instances).where(*KNOWN_INSTANCE).values(stored_at=bindparam("time"))
OTHERS = instances.alias()
CARRY = (  # not the newest instance, which tells when the study last grew
    update(instances)
    .where(
        *KNOWN_INSTANCE,
        exists().where(
            OTHERS.c.study_instance_uid == instances.c.study_instance_uid,
            OTHERS.c.instance_id > instances.c.instance_id,
            OTHERS.c.conflicts.is_(False),
        ),
    )
    .values(stored_at=bindparam("time"), association_id=bindparam("association"))
)
AGAIN_SECONDS, CARRY_SECONDS = 60.0, 5.0
"""How often, at most, identical arrivals are recorded as activity of an answered study, and of one that an association
still carries: each would be one more write."""
HURRY = (  # a bell rings for the job in its new queue
    update(jobs)
    .where(jobs.c.study_instance_uid == bindparam("study"), jobs.c.state == bindparam("queued"))
    .values(priority=bindparam("stat"), rung_at=null())
)


@dataclass(frozen=True)
class Arrival:
    """A stored instance, the association that brought it, and its priority."""

    instance: Instance
    association: Association
    priority: Priority


class Activity(NamedTuple):
    """Activity of a study by identical arrivals; if it is still being received, of the association that carries it."""

    study_instance_uid: str
    association_id: str


ActiveAt = dict[Activity, float]
"""When an activity was last recorded."""


class Intake:
    """Writes associations and instances to the record; every public method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = Turn(engine)
        self._active_at: ActiveAt = {}
        statements = LOCK, KNOWN, OWN, INSERT, CHANGE, HURRY, AGAIN, begin_study(engine)
        self._lock, self._known, self._own, self._insert, self._change, self._hurry, self._again, self._begin_study = (
            as_text(engine, statement) for statement in statements
        )
        self._carry = as_text(engine, CARRY)

    def open_association(self, calling_ae_title: str, called_ae_title: str, peer_address: str) -> Association:
        """Record an association that brings instances, and return it."""
        association = Association(str(uuid.uuid4()), calling_ae_title, called_ae_title, peer_address)
        self._add_associations([association])
        return association

    def close_association(self, association_id: str) -> None:
        """Record that an association ended, or forget it if it brought nothing new; closing twice is harmless."""
        with self._turn, self._engine.begin() as connection:
            connection.execute(
                update(associations)
                .where(associations.c.association_id == association_id, associations.c.closed_at.is_(None))
                .values(closed_at=now())
            )
            forget_associations(connection, [association_id])

    def record_all(self, arrivals: Sequence[Arrival]) -> list[Reception]:
        """Record stored instances in one transaction; return what the arrival of each one meant, in the same order.

        Only a new instance extends its study. A conflicting one flags the study, which keeps the bytes that came first.
        An identical one counts as activity of its study, so that retention does not remove what was just acknowledged.
        If the study is still being received, its association carries the study: after a failure, senders often send a
        study again from the start, and its new instances come last.
        A new or known instance that is urgent makes its study urgent, and the study's job if it still waits.
        """
        try:
            return self._record_all(arrivals)
        except IntegrityError:  # an association was open so long without bringing anything new that it was forgotten
            self._add_associations([arrival.association for arrival in arrivals])
            return self._record_all(arrivals)

    def _add_associations(self, opened: Sequence[Association]) -> None:
        """Record open associations; those that are in the record stay as they are."""
        rows = [vars(association) | {"opened_at": now()} for association in opened]
        with self._turn, self._engine.begin() as connection:
            connection.execute(insert_if_absent(self._engine, associations), rows)

    def _record_all(self, arrivals: Sequence[Arrival]) -> list[Reception]:
        # All nodes must lock studies in the same order, or two of them could wait for each other.
        order = sorted(range(len(arrivals)), key=lambda n: arrivals[n].instance.study_instance_uid)
        receptions = {}
        time = now()
        active_at = {
            key: at
            for key, at in self._active_at.items()
            if abs(time - at) < (CARRY_SECONDS if key.association_id else AGAIN_SECONDS)
        }
        with self._turn, transaction(self._engine) as cursor:
            for n in order:
                receptions[n] = self._record(cursor, arrivals[n], active_at)
        self._active_at = active_at  # only now is it in the record
        return [receptions[n] for n in range(len(arrivals))]

    def _record(self, cursor: Any, arrival: Arrival, active_at: ActiveAt) -> Reception:
        """Record an instance; ``active_at`` holds when an identical arrival was last recorded as a study's activity."""
        instance = arrival.instance
        known = self._lock_study(cursor, instance, arrival.priority)
        reception = self._classify(cursor, instance, known)
        if reception in (Reception.NEW, Reception.CONFLICT):
            path = as_recorded(self._engine, instance.path)
            cursor.execute(self._insert, row(arrival, path, conflicts=reception is Reception.CONFLICT))
        if changes := changed_study(reception, arrival.priority, known):
            study = {"study": instance.study_instance_uid}
            as_it_was = {name: getattr(known, name) for name in CHANGED}
            cursor.execute(self._change, study | as_it_was | changes)
            if "priority" in changes:
                cursor.execute(self._hurry, study | {"queued": JobState.QUEUED.value, "stat": Priority.STAT.value})
        if reception is Reception.IDENTICAL:
            self._keep_active(cursor, arrival, known, active_at)
        return reception

    def _keep_active(self, cursor: Any, arrival: Arrival, known: Known, active_at: ActiveAt) -> None:
        """Record an identical arrival as activity of its study, unless that was done a short time ago."""
        instance, time = arrival.instance, now()
        carrier = arrival.association.association_id if known.state == StudyState.RECEIVING else ""
        key = Activity(instance.study_instance_uid, carrier)
        if key in active_at:
            return
        names = {"study": instance.study_instance_uid, "sop": instance.sop_instance_uid, "content": instance.sha256}
        if carrier:
            cursor.execute(self._carry, names | {"time": time, "association": carrier})
        else:
            cursor.execute(self._again, names | {"time": time})
        if cursor.rowcount:
            active_at[key] = time

    def _lock_study(self, cursor: Any, instance: Instance, priority: Priority) -> Known:
        """Lock the study, adding its row if it is new; return what the record holds on it and on this SOP instance."""
        names = {"study": instance.study_instance_uid, "sop": instance.sop_instance_uid}
        rows = self._look(cursor, names)
        if not rows:
            state = StudyState.SET_ASIDE.value  # until its first new instance is recorded
            new = names | {"state": state, "priority": priority.value, "first_instance_at": now()}
            cursor.execute(self._begin_study, new)
            rows = self._look(cursor, names)
        state, recorded_priority, conflicting, reason, _ = rows[0]
        return Known(state, recorded_priority, conflicting, reason, frozenset(sha256 for *_, sha256 in rows if sha256))

    def _look(self, cursor: Any, names: dict[str, str]) -> list[tuple[str, str, bool, str, str | None]]:
        if self._engine.dialect.name == "postgresql":
            cursor.execute(self._lock, names)
        cursor.execute(self._known, names)
        found: list[tuple[str, str, bool, str, str | None]] = cursor.fetchall()
        return found

    def _classify(self, cursor: Any, instance: Instance, known: Known) -> Reception:
        if instance.sha256 in known.sha256s:
            return Reception.IDENTICAL
        if known.sha256s:
            return Reception.CONFLICT
        if instance.sop_class_uid not in CT_STORAGE:
            cursor.execute(self._own, {"sop": instance.sop_instance_uid})
            if cursor.fetchone():
                return Reception.OWN_RESULT
        return Reception.NEW


@dataclass(frozen=True)
class Known:
    """What the record holds on a study, and the hashes of all instances in it with one SOP Instance UID."""

    state: str
    priority: str
    conflicting: bool
    reason: str
    sha256s: frozenset[str]


@contextmanager
def transaction(engine: Engine) -> Iterator[Any]:
    """Yield the database driver's own cursor for a write transaction.

    Statements that run for every instance bypass SQLAlchemy, which would take six times as long.

    Raises
    ------
    DBAPIError
        An error of the driver, wrapped as by SQLAlchemy.
    """
    errors = engine.dialect.loaded_dbapi.Error
    try:
        with closing(engine.raw_connection()) as connection:  # closing it rolls back what is not committed
            cursor = connection.cursor()
            if engine.dialect.name == "sqlite":
                cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            connection.commit()
    except errors as error:
        raise DBAPIError.instance(None, None, error, errors) from error


def as_text(engine: Engine, statement: ClauseElement) -> str:
    """Return a statement as SQL for the engine's driver, with named parameters."""
    is_sqlite = engine.dialect.name == "sqlite"
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named") if is_sqlite else engine.dialect))


def begin_study(engine: Engine) -> ClauseElement:
    """Return the INSERT of a new study, which does nothing if the study exists."""
    return insert_if_absent(engine, studies).values(
        study_instance_uid=bindparam("study"),
        **{name: bindparam(name) for name in ("state", "priority", "first_instance_at")},
    )


def row(arrival: Arrival, path: str, *, conflicts: bool) -> dict[str, object]:
    """Return the row of a stored instance."""
    return vars(arrival.instance) | {
        "path": path,
        "association_id": arrival.association.association_id,
        "stored_at": now(),
        "conflicts": conflicts,
    }


def changed_study(reception: Reception, priority: Priority, known: Known) -> dict[str, object]:
    """Return the columns that an instance changes in the row of its study; mostly none."""
    if reception is Reception.CONFLICT:
        return {"conflicting": True}
    if reception is Reception.OWN_RESULT:
        return {}
    changes: dict[str, object] = {}
    if reception is Reception.NEW and known.state != StudyState.RECEIVING:
        # The reason was that of the earlier state; from now on, it says why the study waits.
        changes |= {"state": StudyState.RECEIVING.value, "reason": ""}
    if priority is Priority.STAT and known.priority != Priority.STAT:
        changes["priority"] = Priority.STAT.value
    return changes
