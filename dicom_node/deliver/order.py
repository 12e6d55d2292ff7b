"""The order in which the answers to a study go to a destination: a newer one may withdraw earlier ones."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, exists

from dicom_node.record.schema import deliveries, results
from dicom_node.record.withdrawal import is_of_earlier_answer
from dicom_node.study import REJECTION_NOTE, REPORT, DeliveryState

TRIES_AHEAD = 8
"""After so many attempts, an object that a destination never takes no longer holds up newer answers to its study."""


def waits_before(earlier: FromClause, later: FromClause) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that two deliveries to one destination meet if the later must wait for the earlier.

    The earlier one belongs to an earlier answer to the same study, was neither sent nor rejected yet, and does not
    itself wait for a report.
    """
    its, others = results.alias(), results.alias()
    return (
        others.c.sop_instance_uid == later.c.sop_instance_uid,
        *is_of_earlier_answer(its, others),
        earlier.c.sop_instance_uid == its.c.sop_instance_uid,
        earlier.c.destination == later.c.destination,
        # Written as "is PENDING", this would make SQLite read every pending delivery for each one that is due.
        earlier.c.state.not_in((DeliveryState.SENT, DeliveryState.REJECTED)),
        ~waits_for_report(earlier),
    )


def waits_for_report(delivery: FromClause) -> ColumnElement[bool]:
    """Whether a delivery is of a rejection note, and the report of the same answer was not sent there yet.

    A PACS that took the note alone would show no report at all.
    """
    note, report, reported = results.alias(), results.alias(), deliveries.alias()
    return exists().where(
        note.c.sop_instance_uid == delivery.c.sop_instance_uid,
        note.c.kind == REJECTION_NOTE,
        report.c.job_id == note.c.job_id,
        report.c.answer == note.c.answer,
        report.c.kind == REPORT,
        reported.c.sop_instance_uid == report.c.sop_instance_uid,
        reported.c.destination == delivery.c.destination,
        reported.c.state != DeliveryState.SENT,
    )
