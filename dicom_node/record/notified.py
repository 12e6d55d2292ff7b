"""The order of the notifications about a job, which their identifiers tell."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Integer, cast, func

DIGITS = "0123456789"


def notification_number(notification_id: ColumnElement[str]) -> ColumnElement[int]:
    """Return the number of a notification among those about its job: JOB.STATE is the first, JOB.STATE.2 the second."""
    digits = func.replace(notification_id, func.rtrim(notification_id, DIGITS), "")
    return cast(func.coalesce(func.nullif(digits, ""), "1"), Integer)
