"""In which order the answers to a study go to a destination: a newer one may withdraw what comes before it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, exists

from dicom_node.record.schema import deliveries, jobs, results
from dicom_node.study import REJECTION_NOTE, DeliveryState

TRIES_AHEAD = 8
"""After so many, an object that a destination never takes holds up the newer answers to its study no longer."""


def is_of_earlier_answer(its: FromClause, others: FromClause) -> tuple[ColumnElement[bool], ...]:
    """Return what is true of two results of one study, the first of an earlier answer."""
    its_job, others_job = jobs.alias(), jobs.alias()
    return (
        others.c.answer > 1,  # follows from what comes, but of most studies nothing else has to be looked up
        others_job.c.job_id == others.c.job_id,
        its_job.c.study_instance_uid == others_job.c.study_instance_uid,
        its.c.job_id == its_job.c.job_id,
        its.c.answer < others.c.answer,
    )


def waits_before(earlier: FromClause, later: FromClause) -> tuple[ColumnElement[bool], ...]:
    """Return what is true of two deliveries to one destination, the first of an earlier answer to the same study."""
    its, others = results.alias(), results.alias()
    return (
        others.c.sop_instance_uid == later.c.sop_instance_uid,
        *is_of_earlier_answer(its, others),
        earlier.c.sop_instance_uid == its.c.sop_instance_uid,
        earlier.c.destination == later.c.destination,
        # Said as "is PENDING", SQLite would look through all that waits, for each that is due.
        earlier.c.state.not_in((DeliveryState.SENT, DeliveryState.REJECTED)),
    )


def withdrawn_at(destination: str) -> ColumnElement[bool]:
    """Whether a destination has taken the note on a delivery's result: to come after it, that must not go there."""
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
