"""Read studies from the record, in the form in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select

from dicom_node.errors import NotForHilum
from dicom_node.headers import read_text
from dicom_node.log import configure_logging
from dicom_node.record.database import open_database, reading
from dicom_node.record.paths import as_file
from dicom_node.record.schema import deliveries, instances, jobs, notifications, results, series, studies
from dicom_node.settings import Settings, load_settings
from dicom_node.study import DeliveryState, StudyState

Row = dict[str, Any]

BATCH = 1000
"""How many studies are summarized at once: databases limit the values in a statement, PostgreSQL to 65,535."""


def open_record(process: str) -> tuple[Settings, Engine]:
    """Return the settings and the record; log to standard error, as standard output is for the answer alone."""
    settings = load_settings()
    configure_logging(process)
    return settings, open_database(settings.database_url, settings.storage.folder, must_exist=True)


def list_studies(engine: Engine, limit: int, among: Sequence[str] | None = None) -> list[Row]:
    """Return the newest studies, of all or ``among`` some, with their last job and counts of deliveries by state."""
    newest = select(studies).order_by(studies.c.first_instance_at.desc()).limit(limit)
    if among is not None:
        newest = newest.where(studies.c.study_instance_uid.in_(among))
    with reading(engine) as connection:
        found = [row._asdict() for row in connection.execute(newest)]
        batches = [found[start : start + BATCH] for start in range(0, len(found), BATCH)]
        return [study for batch in batches for study in summaries(connection, batch)]


def studies_with(engine: Engine, accession_number: str) -> list[str]:
    """Return the studies whose first instance has this Accession Number; studies without files are not found."""
    firsts = select(func.min(instances.c.instance_id)).group_by(instances.c.study_instance_uid)
    query = select(instances.c.study_instance_uid, instances.c.path).where(instances.c.instance_id.in_(firsts))
    with reading(engine) as connection:
        found = [(uid, as_file(connection, path)) for uid, path in connection.execute(query)]
    return [uid for uid, path in found if accession_number and read_text(path, "AccessionNumber") == accession_number]


def summaries(connection: Connection, rows: list[Row]) -> list[Row]:
    """Return what a list shows of studies, with as many SQL statements for many studies as for one."""
    uids = [row["study_instance_uid"] for row in rows]
    in_order = select(jobs).where(jobs.c.study_instance_uid.in_(uids)).order_by(jobs.c.revision)
    last_jobs = {job.study_instance_uid: job for job in connection.execute(in_order)}
    counted = (
        select(instances.c.study_instance_uid, func.count())
        .where(instances.c.study_instance_uid.in_(uids))
        .group_by(instances.c.study_instance_uid)
    )
    stored = {uid: count for uid, count in connection.execute(counted)}  # noqa: C416 - to mypy, a row is not a pair
    delivered, told = delivery_counts(connection, uids), notification_counts(connection, uids)
    return [
        summary(row, last_jobs.get(uid), stored.get(uid, 0), delivered[uid], told[uid])
        for uid, row in zip(uids, rows, strict=True)
    ]


def summary(study: Row, job: Any, stored: int, delivered: dict[str, int], told: dict[str, int]) -> Row:
    """Return what a list shows of a study, from its row, that of its last job, and counts."""
    # While images that came after the job still wait, the job's state would hide that, and why they wait.
    goes_by_job = job and study["state"] != StudyState.RECEIVING
    return {
        "study_instance_uid": study["study_instance_uid"],
        "received": timestamp(study["first_instance_at"]),
        "instances": stored,
        "state": job.state if goes_by_job else study["state"],
        "priority": job.priority if goes_by_job else study["priority"],
        "revision": job.revision if job else None,
        "stage": job.stage if job else "",
        "infected_percent": job.infected_percent if job else None,
        "reason": job.message if goes_by_job and job.message else study["reason"],
        "conflicting": study["conflicting"],
        "deliveries": delivered,
        "notifications": told,
    }


def delivery_counts(connection: Connection, uids: list[str]) -> dict[str, dict[str, int]]:
    """Return how many deliveries of each study are in each state."""
    query = (
        select(jobs.c.study_instance_uid, deliveries.c.state, func.count())
        .join(results, results.c.sop_instance_uid == deliveries.c.sop_instance_uid)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .where(jobs.c.study_instance_uid.in_(uids))
        .group_by(jobs.c.study_instance_uid, deliveries.c.state)
    )
    return counts_of_states(connection, query, uids)


def notification_counts(connection: Connection, uids: list[str]) -> dict[str, dict[str, int]]:
    """Return how many notifications of each study are in each state."""
    query = (
        select(jobs.c.study_instance_uid, notifications.c.state, func.count())
        .join(jobs, jobs.c.job_id == notifications.c.job_id)
        .where(jobs.c.study_instance_uid.in_(uids))
        .group_by(jobs.c.study_instance_uid, notifications.c.state)
    )
    return counts_of_states(connection, query, uids)


def counts_of_states(connection: Connection, query: Select[Any], uids: list[str]) -> dict[str, dict[str, int]]:
    """Return the counts by study and state that a query yields; 0 for a state that it does not yield."""
    counts = {uid: dict.fromkeys(map(str, DeliveryState), 0) for uid in uids}
    for uid, state, count in connection.execute(query):
        counts[uid][state] = count
    return counts


def find_study(engine: Engine, study_instance_uid: str) -> Row:
    """Return the row of a study."""
    with reading(engine) as connection:
        row = connection.execute(
            select(studies).where(studies.c.study_instance_uid == study_instance_uid)
        ).one_or_none()
    if row is None:
        raise NotForHilum("unknown-study", "the record holds no such study; `hilum studies` lists them")
    return row._asdict()


def show_study(engine: Engine, study_instance_uid: str) -> Row:
    """Return everything that the record holds on one study, as it is shown."""
    row = find_study(engine, study_instance_uid)
    with reading(engine) as connection:
        its_series = select(series.c.series_instance_uid, series.c.selected, series.c.reason).where(
            series.c.study_instance_uid == study_instance_uid
        )
        its_jobs = select(jobs).where(jobs.c.study_instance_uid == study_instance_uid).order_by(jobs.c.revision)
        its_deliveries = (
            select(results.c.kind, deliveries.c.sop_instance_uid, deliveries.c.destination, deliveries.c.state)
            .add_columns(deliveries.c.status, deliveries.c.attempts, deliveries.c.message, deliveries.c.committed_at)
            .join(results, results.c.sop_instance_uid == deliveries.c.sop_instance_uid)
            .join(jobs, jobs.c.job_id == results.c.job_id)
            .where(jobs.c.study_instance_uid == study_instance_uid)
            .order_by(deliveries.c.delivery_id)
        )
        its_notifications = (
            select(notifications.c.notification_id, notifications.c.state, notifications.c.status)
            .add_columns(*(notifications.c[name] for name in ("attempts", "message", "due_at", "sent_at")))
            .join(jobs, jobs.c.job_id == notifications.c.job_id)
            .where(jobs.c.study_instance_uid == study_instance_uid)
            .order_by(jobs.c.revision, notifications.c.notification_id)
        )
        return {
            **summaries(connection, [row])[0],
            "series": [dict(r) for r in connection.execute(its_series).mappings()],
            "jobs": [shown_job(dict(r)) for r in connection.execute(its_jobs).mappings()],
            "sent": [
                {**r, "committed_at": timestamp(r["committed_at"])}
                for r in connection.execute(its_deliveries).mappings()
            ],
            "told": [
                {**r, "sent_at": timestamp(r["sent_at"]), "due_at": timestamp(r["due_at"])}
                for r in connection.execute(its_notifications).mappings()
            ],
        }


def shown_job(job: Row) -> Row:
    """Return a job as it is shown: without the lease, with readable times."""
    times = {key: timestamp(job[key]) for key in ("created_at", "started_at", "finished_at")}
    keys = ("job_id", "revision", "series_instance_uid", "state", "attempts", "infected_percent", "code", "message")
    return {key: job[key] for key in keys} | times


def timestamp(seconds: float | None) -> str | None:
    """Return a time of the record in ISO 8601, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
