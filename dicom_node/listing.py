"""``hilum studies``: what has become of each study."""

from __future__ import annotations

import argparse
import json
import sys

from dicom_node.figures import format_percent
from dicom_node.record.studies import Row, list_studies, open_record, show_study, studies_with
from dicom_node.study import Priority


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


def asked_for(what: str) -> str:
    """Return a value that is typed or piped in; unlike an argument, other users of the machine cannot see it."""
    if sys.stdin.isatty():
        print(f"{what}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def print_list(rows: list[Row]) -> None:
    """Print one line for each study."""
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
    """Return remarks on a study beyond its state: urgency, conflicts, refused results, the webhook, the reason."""
    urgent = "STAT" if row["priority"] == Priority.STAT else ""
    conflicting = "conflicting: different bytes arrived under the same UID" if row["conflicting"] else ""
    told = row["notifications"]
    refused = row["deliveries"]["rejected"]
    unsent = f"{refused} refused by a PACS: `hilum studies {row['study_instance_uid']}` says why" if refused else ""
    untold = "the webhook refused it" if told["rejected"] else "waiting for the webhook" if told["pending"] else ""
    return "; ".join(part for part in (urgent, conflicting, unsent, untold, row["reason"]) if part)


def print_study(study: Row) -> None:
    """Print a study, with its series, jobs, deliveries and notifications."""
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
