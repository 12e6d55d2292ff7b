"""The order in which the answers to a study go to a destination: a newer one may withdraw earlier ones."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, exists

from dicom_node.record.schema import deliveries, jobs, results
from dicom_node.study import REJECTION_NOTE, DeliveryState

TRIES_AHEAD = 8
"""After so many attempts, an object that a destination never takes no longer holds up newer answers to its study."""


def is_of_earlier_answer(its: FromClause, others: FromClause) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that two results of one study meet if the first belongs to an earlier answer."""
    its_job, others_job = jobs.alias(), jobs.alias()
    return (
        others.c.answer > 1,  # implied by the last line, but spares the other lookups: most studies have one answer
        others_job.c.job_id == others.c.job_id,
        its_job.c.study_instance_uid == others_job.c.study_instance_uid,
        its.c.job_id == its_job.c.job_id,
        its.c.answer < others.c.answer,
    )


def waits_before(earlier: FromClause, later: FromClause) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that two deliveries to one destination meet if the later must wait for the earlier.

    The earlier one belongs to an earlier answer to the same study, and was neither sent nor rejected yet.
    """
    its, others = results.alias(), results.alias()
    return (
        others.c.sop_instance_uid == later.c.sop_instance_uid,
        *is_of_earlier_answer(its, others),
        earlier.c.sop_instance_uid == its.c.sop_instance_uid,
        earlier.c.destination == later.c.destination,
        # Written as "is PENDING", this would make SQLite read every pending delivery for each one that is due.
        earlier.c.state.not_in((DeliveryState.SENT, DeliveryState.REJECTED)),
    )


def withdrawn_at(destination: str) -> ColumnElement[bool]:
    """Whether a destination has taken a rejection note that withdraws a delivery's result.

    The result must then not be sent there: nothing would withdraw it again.
    """
    its, note, noted = results.alias(), results.alias(), deliveries.alias()
    return exists().where(
        its.c.sop_instance_uid == deliveries.c.sop_instance_uid,
        its.c.kind != REJECTION_NOTE,
        *is_of_earlier_answer(its, note),
        note.c.kind == REJECTION_NOTE,
        noted.c.sop_instance_uid == note.c.sop_instance_uid,
        noted.c.destination == destination,
        noted.c.state == DeliveryState.SENT,
    )
