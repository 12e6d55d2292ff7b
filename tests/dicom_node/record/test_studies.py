"""What is listed of studies."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Engine, event

from dicom_node.record.schema import studies
from dicom_node.record.studies import list_studies
from dicom_node.study import Priority, StudyState

MOST_VALUES = 2000
"""PostgreSQL takes 65,535; so many make the test slow."""


def test_more_studies_are_listed_than_a_statement_takes_values(sqlite_record: Engine) -> None:
    @event.listens_for(sqlite_record, "checkout")
    def set_limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, MOST_VALUES)

    row = {"state": StudyState.SET_ASIDE, "priority": Priority.ROUTINE}
    uids = [f"1.2.{number}" for number in range(MOST_VALUES + 1)]
    with sqlite_record.begin() as connection:
        added = [row | {"study_instance_uid": uid, "first_instance_at": n} for n, uid in enumerate(uids)]
        connection.execute(studies.insert(), added)
    listed = list_studies(sqlite_record, len(uids))
    assert [study["study_instance_uid"] for study in listed] == uids[::-1]
