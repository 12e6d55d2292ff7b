"""Studies that were received and not dispatched yet, and how they leave that state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, case, func, select, update

from dicom_node.record.database import reading
from dicom_node.record.paths import as_file
from dicom_node.record.schema import associations, instances, series, studies
from dicom_node.study import Priority, StudyActivity, StudyState


@dataclass(frozen=True)
class StoredInstance:
    """The fields of an instance that dispatching needs."""

    instance_id: int
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    path: Path


def receiving(engine: Engine) -> list[StudyActivity]:
    """Return the activity of every study that is still being received: urgent ones first, then in order of arrival."""
    carried_at = case((associations.c.closed_at.is_(None), instances.c.stored_at))
    found = (
        select(
            studies.c.study_instance_uid,
            studies.c.priority,
            func.min(instances.c.instance_id).label("first"),
            func.max(instances.c.instance_id).label("last"),
            func.max(carried_at).label("carried_at"),
        )
        .join(instances, instances.c.study_instance_uid == studies.c.study_instance_uid)
        .join(associations, associations.c.association_id == instances.c.association_id)
        .where(studies.c.state == StudyState.RECEIVING, instances.c.conflicts.is_(False))
        .group_by(studies.c.study_instance_uid)
        .subquery()
    )
    # The newest instance tells when the study last grew; others may have arrived again since.
    query = (
        select(found.c.study_instance_uid, found.c.last, instances.c.stored_at, found.c.carried_at)
        .join(instances, instances.c.instance_id == found.c.last)
        .order_by(case((found.c.priority == Priority.STAT, 0), else_=1), found.c.first)
    )
    with reading(engine) as connection:
        return [StudyActivity(*row) for row in connection.execute(query)]


def instances_of(engine: Engine, study_instance_uid: str) -> list[StoredInstance]:
    """Return the instances of a study, without conflicting ones."""
    query = select(
        instances.c.instance_id,
        instances.c.series_instance_uid,
        instances.c.sop_instance_uid,
        instances.c.sop_class_uid,
        instances.c.sha256,
        instances.c.path,
    ).where(instances.c.study_instance_uid == study_instance_uid, instances.c.conflicts.is_(False))
    with reading(engine) as connection:
        return [StoredInstance(*row[:-1], path=as_file(connection, row.path)) for row in connection.execute(query)]


def say_why_it_waits(engine: Engine, study_instance_uid: str, reason: str) -> None:
    """Record why a study that is being received goes no further; `hilum studies` shows it."""
    this = studies.c.study_instance_uid == study_instance_uid
    with engine.begin() as connection:
        connection.execute(update(studies).where(this, studies.c.state == StudyState.RECEIVING).values(reason=reason))


def leave_receiving(
    connection: Connection,
    activity: StudyActivity,
    state: StudyState,
    reason: str,
    series_reasons: Mapping[str, str],
    selected: str | None,
) -> bool:
    """Move a study out of RECEIVING unless it has grown meanwhile; return whether it was moved.

    This also records for each series why it was chosen or not.
    """
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
