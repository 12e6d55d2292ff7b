"""The record of what came in: associations, studies, instances."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, Row, and_, bindparam, case, func, select, update

from dicom_node.database import insert_if_absent, now, reading
from dicom_node.headers import CT_STORAGE
from dicom_node.schema import associations, instances, results, series, studies
from dicom_node.study import Association, Instance, Priority, Reception, StudyActivity, StudyState
from dicom_node.turn import Turn

# Built once: these run for every instance. On PostgreSQL the study's row is locked first, so that two senders
# of one study take turns: a statement sees what was committed when it began, not while it waited for a lock.
# SQLite has one writer anyway.
LOCK = select(studies.c.state).where(studies.c.study_instance_uid == bindparam("study")).with_for_update()
KNOWN = (
    select(studies.c.state, studies.c.priority, instances.c.sha256)
    .select_from(studies)
    .outerjoin(
        instances,
        and_(
            instances.c.study_instance_uid == studies.c.study_instance_uid,
            instances.c.sop_instance_uid == bindparam("sop"),
        ),
    )
    .where(studies.c.study_instance_uid == bindparam("study"))
)
OWN = select(results.c.sop_instance_uid).where(results.c.sop_instance_uid == bindparam("sop"))
INSERT = instances.insert()


@dataclass(frozen=True)
class StoredInstance:
    """What dispatch needs of an instance."""

    instance_id: int
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    path: Path


@dataclass(frozen=True)
class Arrival:
    """An instance on the disk, and how it came."""

    instance: Instance
    association: Association
    priority: Priority


class Intake:
    """Writes down what arrives; every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = Turn(engine)

    def open_association(self, calling_ae_title: str, called_ae_title: str, peer_address: str) -> Association:
        """Record that an association brings instances."""
        association = Association(str(uuid.uuid4()), calling_ae_title, called_ae_title, peer_address)
        with self._turn, self._engine.begin() as connection:
            connection.execute(
                associations.insert().values(
                    association_id=association.association_id,
                    calling_ae_title=calling_ae_title,
                    called_ae_title=called_ae_title,
                    peer_address=peer_address,
                    opened_at=now(),
                )
            )
        return association

    def close_association(self, association_id: str) -> None:
        """Record that an association ended; closing twice is harmless."""
        with self._turn, self._engine.begin() as connection:
            connection.execute(
                update(associations)
                .where(associations.c.association_id == association_id, associations.c.closed_at.is_(None))
                .values(closed_at=now())
            )

    def record(self, instance: Instance, association: Association, priority: Priority) -> Reception:
        """Record a stored instance, and say what its arrival means.

        Only a new instance makes its study grow. One that conflicts flags it: the first bytes stay.
        """
        return self.record_all([Arrival(instance, association, priority)])[0]

    def record_all(self, arrivals: Sequence[Arrival]) -> list[Reception]:
        """Record several instances in one transaction."""
        # Nodes that lock the same studies must do so in the same order.
        order = sorted(range(len(arrivals)), key=lambda n: arrivals[n].instance.study_instance_uid)
        receptions = {}
        with self._turn, self._engine.begin() as connection:
            for n in order:
                receptions[n] = self._record(connection, arrivals[n])
        return [receptions[n] for n in range(len(arrivals))]

    def _record(self, connection: Connection, arrival: Arrival) -> Reception:
        instance, priority = arrival.instance, arrival.priority
        known = self._lock_study(connection, instance, priority)
        reception = self._classify(connection, instance, known)
        if reception in (Reception.NEW, Reception.CONFLICT):
            self._insert(connection, instance, arrival.association, conflicts=reception is Reception.CONFLICT)
            changes = changed_study(reception, priority, known.state, known.priority)
            if changes:
                its_study = studies.c.study_instance_uid == instance.study_instance_uid
                connection.execute(update(studies).where(its_study).values(**changes))
        return reception

    def _lock_study(self, connection: Connection, instance: Instance, priority: Priority) -> Known:
        """Return what is known of the study and of this SOP instance in it; a new study begins here."""
        names = {"study": instance.study_instance_uid, "sop": instance.sop_instance_uid}
        rows = self._look(connection, names)
        if not rows:
            connection.execute(
                insert_if_absent(self._engine, studies).values(
                    study_instance_uid=instance.study_instance_uid,
                    state=StudyState.SET_ASIDE,  # until an instance that counts is recorded
                    priority=priority,
                    first_instance_at=now(),
                )
            )
            rows = self._look(connection, names)
        return Known(rows[0].state, rows[0].priority, frozenset(row.sha256 for row in rows if row.sha256))

    def _look(self, connection: Connection, names: dict[str, str]) -> Sequence[Row[str, str, str]]:
        if self._engine.dialect.name == "postgresql":
            connection.execute(LOCK, names)
        return connection.execute(KNOWN, names).all()

    @staticmethod
    def _classify(connection: Connection, instance: Instance, known: Known) -> Reception:
        if instance.sha256 in known.sha256s:
            return Reception.IDENTICAL
        if known.sha256s:
            return Reception.CONFLICT
        if instance.sop_class_uid not in CT_STORAGE and connection.scalar(OWN, {"sop": instance.sop_instance_uid}):
            return Reception.OWN_RESULT
        return Reception.NEW

    @staticmethod
    def _insert(connection: Connection, instance: Instance, association: Association, *, conflicts: bool) -> None:
        connection.execute(
            INSERT,
            {
                "study_instance_uid": instance.study_instance_uid,
                "series_instance_uid": instance.series_instance_uid,
                "sop_instance_uid": instance.sop_instance_uid,
                "sop_class_uid": instance.sop_class_uid,
                "transfer_syntax_uid": instance.transfer_syntax_uid,
                "sha256": instance.sha256,
                "size_bytes": instance.size_bytes,
                "path": str(instance.path),
                "association_id": association.association_id,
                "stored_at": now(),
                "conflicts": conflicts,
            },
        )

    def receiving(self) -> list[StudyActivity]:
        """Return the activity of every study that is still being received."""
        carried_at = case((associations.c.closed_at.is_(None), instances.c.stored_at))
        query = (
            select(
                studies.c.study_instance_uid,
                func.max(instances.c.instance_id),
                func.max(instances.c.stored_at),
                func.max(carried_at),
            )
            .join(instances, instances.c.study_instance_uid == studies.c.study_instance_uid)
            .join(associations, associations.c.association_id == instances.c.association_id)
            .where(studies.c.state == StudyState.RECEIVING, instances.c.conflicts.is_(False))
            .group_by(studies.c.study_instance_uid)
        )
        with reading(self._engine) as connection:
            return [StudyActivity(*row) for row in connection.execute(query)]

    def instances(self, study_instance_uid: str) -> list[StoredInstance]:
        """Return the instances of a study, without those kept aside."""
        query = select(
            instances.c.instance_id,
            instances.c.series_instance_uid,
            instances.c.sop_instance_uid,
            instances.c.sop_class_uid,
            instances.c.sha256,
            instances.c.path,
        ).where(instances.c.study_instance_uid == study_instance_uid, instances.c.conflicts.is_(False))
        with reading(self._engine) as connection:
            return [StoredInstance(*row[:-1], path=Path(row.path)) for row in connection.execute(query)]


@dataclass(frozen=True)
class Known:
    """What the record already says of a study, and the content it knows under an instance's UID."""

    state: str
    priority: str
    sha256s: frozenset[str]


def changed_study(reception: Reception, priority: Priority, state: str, recorded_priority: str) -> dict[str, object]:
    """Return what an instance changes in the row of its study; mostly nothing."""
    if reception is Reception.CONFLICT:
        return {"conflicting": True}
    changes: dict[str, object] = {}
    if state != StudyState.RECEIVING:
        changes["state"] = StudyState.RECEIVING
    if priority is Priority.STAT and recorded_priority != Priority.STAT:
        changes["priority"] = Priority.STAT
    return changes


def settle(
    connection: Connection,
    activity: StudyActivity,
    state: StudyState,
    reason: str,
    series_reasons: Mapping[str, str],
    selected: str | None,
) -> bool:
    """Move a study out of RECEIVING unless it has grown meanwhile; write down why each series was (not) chosen."""
    uid = activity.study_instance_uid
    locked = connection.scalar(select(studies.c.state).where(studies.c.study_instance_uid == uid).with_for_update())
    newest = connection.scalar(
        select(func.max(instances.c.instance_id)).where(
            instances.c.study_instance_uid == uid, instances.c.conflicts.is_(False)
        )
    )
    if locked != StudyState.RECEIVING or newest != activity.last_instance_id:
        return False
    connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(state=state, reason=reason))
    connection.execute(series.delete().where(series.c.study_instance_uid == uid))
    if series_reasons:
        rows = [
            {
                "study_instance_uid": uid,
                "series_instance_uid": series_uid,
                "selected": series_uid == selected,
                "reason": why,
            }
            for series_uid, why in series_reasons.items()
        ]
        connection.execute(series.insert(), rows)
    return True
