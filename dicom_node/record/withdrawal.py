"""Which results a rejection note withdraws: those of the earlier answers to its study."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, exists

from dicom_node.record.schema import deliveries, jobs, results
from dicom_node.study import REJECTION_NOTE, DeliveryState


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


def withdrawn_at(destination: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a destination has taken a rejection note that withdraws a delivery's result.

    The destination need not keep the result then, and it must not be sent there: nothing would withdraw it again.
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
