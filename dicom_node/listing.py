"""``hilum studies``, ``retry``, ``resend``, ``redirect`` and ``remove``: what has become of each study."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select

from dicom_node.deliver.notifier import Notifications
from dicom_node.deliver.outbox import Outbox
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import NotForHilum, SettingsError
from dicom_node.figures import format_percent
from dicom_node.log import configure_logging
from dicom_node.record.accession import studies_with
from dicom_node.record.database import open_database, reading
from dicom_node.record.retention import Retention
from dicom_node.record.schema import deliveries, instances, jobs, notifications, results, series, studies
from dicom_node.settings import Settings, load_settings
from dicom_node.study import DeliveryState, Priority

Row = dict[str, Any]


def run_studies(arguments: argparse.Namespace) -> int:
    """List the newest studies, or show one."""
    _, engine = open_record("studies")
    if arguments.study:
        found: Row | list[Row] = show_study(engine, arguments.study)
    elif arguments.accession:
        found = list_studies(engine, arguments.limit, studies_with(engine, asked_for("Accession Number")))
    else:
        found = list_studies(engine, arguments.limit)
    if arguments.json:
        print(json.dumps(found, indent=2))
    elif isinstance(found, list):
        print_list(found)
    else:
        print_study(found)
    return 0


def open_record(process: str) -> tuple[Settings, Engine]:
    """Return the settings and the record, with logs on standard error: the other output is for the answer alone."""
    settings = load_settings()
    configure_logging(process)
    return settings, open_database(settings.database_url, must_exist=True)


def asked_for(what: str) -> str:
    """Return what is typed, or comes through a pipe: nobody else sees it, as they would an argument."""
    if sys.stdin.isatty():
        print(f"{what}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def run_retry(arguments: argparse.Namespace) -> int:
    """Queue and send again what failed."""
    settings, engine = open_record("retry")
    find_study(engine, arguments.study)
    measured = Jobs(engine, settings.jobs).retry(arguments.study)
    sent = Outbox(engine, settings.delivery).resend(arguments.study, waiting_too=True)
    told = Notifications(engine, settings).retry(arguments.study)
    print(f"{measured} jobs queued again, {sent} deliveries due again, {told} notifications due again")
    return 0


def run_resend(arguments: argparse.Namespace) -> int:
    """Send again what a PACS refused, and, unless one is named, what the webhook did."""
    settings, engine = open_record("resend")
    if arguments.study:
        find_study(engine, arguments.study)
    if arguments.destination:
        require_destination(arguments.destination, settings)
    count = Outbox(engine, settings.delivery).resend(arguments.study, arguments.destination)
    told = 0 if arguments.destination else Notifications(engine, settings).retry(arguments.study)
    print(f"{count} refused deliveries due again, {told} notifications due again")
    return 0


def run_redirect(arguments: argparse.Namespace) -> int:
    """Send to one destination what another has not taken."""
    settings, engine = open_record("redirect")
    require_destination(arguments.to, settings)
    outbox = Outbox(engine, settings.delivery)
    require_one_of({*names_in(settings), *outbox.destinations()}, arguments.destination)
    count = outbox.redirect(arguments.destination, arguments.to)
    print(f"{count} deliveries due at {arguments.to}")
    return 0


def require_destination(name: str, settings: Settings) -> None:
    """SettingsError, unless results go there."""
    require_one_of(names_in(settings), name)


def names_in(settings: Settings) -> list[str]:
    """Return the names of the destinations that the settings name."""
    return [destination.name for destination in settings.destinations]


def require_one_of(names: Collection[str], name: str) -> None:
    """SettingsError, unless a destination's name is one of these."""
    if name not in names:
        raise SettingsError("unknown-destination", f"expected one of {', '.join(sorted(names)) or 'none'}, got {name}")


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove the files of a study whose answer is delivered; 1 if it is not, or if files are left."""
    settings, engine = open_record("remove")
    find_study(engine, arguments.study)
    try:
        if not Retention(engine, settings).remove(arguments.study):
            print("kept: it is not answered, its results are not all delivered, or nothing is left of it")
            return 1
    except OSError as error:
        reason = error.strerror or type(error).__name__
        print(f"removed from the record; files are left ({reason}), and the node tries again every hour")
        return 1
    print("removed; the record still says what became of it")
    return 0


def list_studies(engine: Engine, limit: int, among: Sequence[str] | None = None) -> list[Row]:
    """Return the newest studies, of all or of some, with their last job and how far its results got."""
    newest = select(studies).order_by(studies.c.first_instance_at.desc()).limit(limit)
    if among is not None:
        newest = newest.where(studies.c.study_instance_uid.in_(among))
    with reading(engine) as connection:
        return summaries(connection, [row._asdict() for row in connection.execute(newest)])


def summaries(connection: Connection, rows: list[Row]) -> list[Row]:
    """Return what a list shows of studies; as many statements for many as for one."""
    uids = [row["study_instance_uid"] for row in rows]
    in_order = select(jobs).where(jobs.c.study_instance_uid.in_(uids)).order_by(jobs.c.revision)
    last_jobs = {job.study_instance_uid: job for job in connection.execute(in_order)}
    counted = (
        select(instances.c.study_instance_uid, func.count())
        .where(instances.c.study_instance_uid.in_(uids))
        .group_by(instances.c.study_instance_uid)
    )
    stored = {uid: count for uid, count in connection.execute(counted)}  # noqa: C416 - rows are no pairs to mypy
    delivered, told = delivery_counts(connection, uids), notification_counts(connection, uids)
    return [
        summary(row, last_jobs.get(uid), stored.get(uid, 0), delivered[uid], told[uid])
        for uid, row in zip(uids, rows, strict=True)
    ]


def summary(study: Row, job: Any, stored: int, delivered: dict[str, int], told: dict[str, int]) -> Row:
    """Return what a list shows of a study, from its row and that of its last job."""
    return {
        "study_instance_uid": study["study_instance_uid"],
        "received": timestamp(study["first_instance_at"]),
        "instances": stored,
        "state": job.state if job else study["state"],
        "priority": job.priority if job else study["priority"],
        "revision": job.revision if job else None,
        "stage": job.stage if job else "",
        "infected_percent": job.infected_percent if job else None,
        "reason": job.message if job and job.message else study["reason"],
        "conflicting": study["conflicting"],
        "deliveries": delivered,
        "notifications": told,
    }


def delivery_counts(connection: Connection, uids: list[str]) -> dict[str, dict[str, int]]:
    """Return how many deliveries of each study stand in each state."""
    query = (
        select(jobs.c.study_instance_uid, deliveries.c.state, func.count())
        .join(results, results.c.sop_instance_uid == deliveries.c.sop_instance_uid)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .where(jobs.c.study_instance_uid.in_(uids))
        .group_by(jobs.c.study_instance_uid, deliveries.c.state)
    )
    return counts_of_states(connection, query, uids)


def notification_counts(connection: Connection, uids: list[str]) -> dict[str, dict[str, int]]:
    """Return how many notifications of each study stand in each state."""
    query = (
        select(jobs.c.study_instance_uid, notifications.c.state, func.count())
        .join(jobs, jobs.c.job_id == notifications.c.job_id)
        .where(jobs.c.study_instance_uid.in_(uids))
        .group_by(jobs.c.study_instance_uid, notifications.c.state)
    )
    return counts_of_states(connection, query, uids)


def counts_of_states(connection: Connection, query: Select[Any], uids: list[str]) -> dict[str, dict[str, int]]:
    """Return the counts that a query yields of each study, 0 where it yields none."""
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
    """Return all that the record says of one study."""
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


def print_list(rows: list[Row]) -> None:
    """Print a line a study."""
    if not rows:
        print("no studies")
    for row in rows:
        percent = "" if row["infected_percent"] is None else format_percent(row["infected_percent"])
        sent, total = row["deliveries"]["sent"], sum(row["deliveries"].values())
        print(
            f"{row['received']}  {row['state']:<10} {percent:>7}  {sent}/{total} sent  {row['instances']:>5} images  "
            f"{row['study_instance_uid']}  {remarks(row)}"
        )


def remarks(row: Row) -> str:
    """Return what somebody should know of a study beyond its state."""
    urgent = "STAT" if row["priority"] == Priority.STAT else ""
    conflicting = "conflicting: other bytes came under a UID it has" if row["conflicting"] else ""
    told = row["notifications"]
    untold = "the webhook refused it" if told["rejected"] else "the webhook waits" if told["pending"] else ""
    return "; ".join(part for part in (urgent, conflicting, untold, row["reason"]) if part)


def print_study(study: Row) -> None:
    """Print a study in blocks."""
    print_list([study])
    for one in study["series"]:
        print(f"  series  {one['series_instance_uid']}  {one['reason']}")
    for job in study["jobs"]:
        said = f"{job['state']}, attempts: {job['attempts']}  {job['message']}"
        print(f"  job     revision {job['revision']}  {said}")
    for sent in study["sent"]:
        answer = "no status" if sent["status"] is None else f"{sent['status']:#06x}"
        state = "sent and committed" if sent["committed_at"] else sent["state"]
        print(f"  result  {sent['kind']:<10} to {sent['destination']}: {state}, {answer}  {sent['message']}")
    for told in study["told"]:
        answer = "no answer" if told["status"] is None else f"HTTP {told['status']}"
        print(f"  webhook {told['notification_id']}: {told['state']}, {answer}  {told['message']}")
