"""The record of what came in: associations, studies, series, instances."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, func, select, update

from dicom_node.database import insert_if_absent, now, reading
from dicom_node.schema import associations, carries, instances, results, series, studies
from dicom_node.study import Association, Instance, Priority, Reception, StudyActivity, StudyState


@dataclass(frozen=True)
class StoredInstance:
    """What dispatch needs of an instance."""

    instance_id: int
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    path: Path


class Intake:
    """Writes down what arrives; every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open_association(self, calling_ae_title: str, called_ae_title: str, peer_address: str) -> Association:
        """Record that an association was established."""
        association = Association(str(uuid.uuid4()), calling_ae_title, called_ae_title, peer_address)
        with self._engine.begin() as connection:
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
        with self._engine.begin() as connection:
            connection.execute(
                update(associations)
                .where(associations.c.association_id == association_id, associations.c.closed_at.is_(None))
                .values(closed_at=now())
            )

    def record(self, instance: Instance, association: Association, priority: Priority) -> Reception:
        """Record a stored instance, and say what its arrival means.

        Only a new instance, or a conflicting one, counts as growth of its study.
        """
        with self._engine.begin() as connection:
            reception = self._classify(connection, instance)
            if reception in (Reception.NEW, Reception.CONFLICT):
                self._insert(connection, instance, association, priority, conflicts=reception is Reception.CONFLICT)
        return reception

    @staticmethod
    def _classify(connection: Connection, instance: Instance) -> Reception:
        known = connection.scalars(
            select(instances.c.sha256).where(
                instances.c.study_instance_uid == instance.study_instance_uid,
                instances.c.sop_instance_uid == instance.sop_instance_uid,
            )
        ).all()
        if instance.sha256 in known:
            return Reception.IDENTICAL
        if known:
            return Reception.CONFLICT
        own = select(results.c.sop_instance_uid).where(results.c.sop_instance_uid == instance.sop_instance_uid)
        return Reception.OWN_RESULT if connection.scalar(own) else Reception.NEW

    def _insert(
        self,
        connection: Connection,
        instance: Instance,
        association: Association,
        priority: Priority,
        *,
        conflicts: bool,
    ) -> None:
        time = now()
        study = {"study_instance_uid": instance.study_instance_uid}
        connection.execute(
            insert_if_absent(self._engine, studies).values(
                **study,
                state=StudyState.RECEIVING,
                priority=priority,
                first_instance_at=time,
                last_instance_at=time,
            )
        )
        growth = {"last_instance_at": time, "state": StudyState.RECEIVING}
        if conflicts:
            # The first bytes stay: nothing to measure again, but the study is flagged.
            growth = {"conflicting": True}
        elif priority is Priority.STAT:
            growth["priority"] = priority
        connection.execute(
            update(studies).where(studies.c.study_instance_uid == instance.study_instance_uid).values(**growth)
        )
        connection.execute(
            insert_if_absent(self._engine, series).values(**study, series_instance_uid=instance.series_instance_uid)
        )
        connection.execute(
            insert_if_absent(self._engine, carries).values(
                **study, association_id=association.association_id, last_instance_at=time
            )
        )
        connection.execute(
            update(carries)
            .where(
                carries.c.study_instance_uid == instance.study_instance_uid,
                carries.c.association_id == association.association_id,
            )
            .values(last_instance_at=time)
        )
        connection.execute(
            instances.insert().values(
                **study,
                series_instance_uid=instance.series_instance_uid,
                sop_instance_uid=instance.sop_instance_uid,
                sop_class_uid=instance.sop_class_uid,
                transfer_syntax_uid=instance.transfer_syntax_uid,
                sha256=instance.sha256,
                size_bytes=instance.size_bytes,
                path=str(instance.path),
                association_id=association.association_id,
                stored_at=time,
                conflicts=conflicts,
            )
        )

    def receiving(self) -> list[StudyActivity]:
        """Return the activity of every study that is still being received."""
        still_open = select(associations.c.association_id).where(associations.c.closed_at.is_(None))
        carried = (
            select(carries.c.study_instance_uid, func.max(carries.c.last_instance_at).label("last_carried_at"))
            .where(carries.c.association_id.in_(still_open))
            .group_by(carries.c.study_instance_uid)
            .subquery()
        )
        query = (
            select(studies.c.study_instance_uid, studies.c.last_instance_at, carried.c.last_carried_at)
            .outerjoin(carried, carried.c.study_instance_uid == studies.c.study_instance_uid)
            .where(studies.c.state == StudyState.RECEIVING)
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


def settle(
    connection: Connection,
    activity: StudyActivity,
    state: StudyState,
    reason: str,
    series_reasons: Mapping[str, str],
    selected: str | None,
) -> bool:
    """Move a study out of RECEIVING unless it has grown meanwhile; write down why each series was (not) chosen."""
    moved = connection.execute(
        update(studies)
        .where(
            studies.c.study_instance_uid == activity.study_instance_uid,
            studies.c.state == StudyState.RECEIVING,
            studies.c.last_instance_at == activity.last_instance_at,
        )
        .values(state=state, reason=reason)
    )
    if moved.rowcount == 0:
        return False
    for uid, why in series_reasons.items():
        connection.execute(
            update(series)
            .where(
                series.c.study_instance_uid == activity.study_instance_uid,
                series.c.series_instance_uid == uid,
            )
            .values(selected=uid == selected, reason=why)
        )
    return True
