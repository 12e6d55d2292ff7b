"""What is listed of studies."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import Engine, event

from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.received import say_why_it_waits
from dicom_node.receive.intake import Intake
from dicom_node.record.schema import studies
from dicom_node.record.studies import list_studies, show_study
from dicom_node.settings import JobSettings
from dicom_node.study import Ending, JobState, Priority, StudyState
from tests.dicom_node.recording import STUDY, claimed, instance, make_job, receive

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


REFUSED = Ending(JobState.REFUSED, code="no-fitting-series", message="expected at least 10 slices, got 4")


@pytest.mark.parametrize("ending", [REFUSED, Ending(JobState.DONE, infected_percent=3.0)])
def test_an_answered_study_to_which_more_images_came_shows_that_it_waits_and_why(
    sqlite_record: Engine, ending: Ending
) -> None:
    queue = Jobs(sqlite_record, JobSettings())
    job = claimed(queue, make_job(sqlite_record))
    queue.finish(job, ending, (), ())
    with sqlite_record.begin() as connection:
        connection.execute(studies.update().values(reason="1 of 2 stored files could not be read"))
    receive(Intake(sqlite_record), instance("1.2.3.1.77"), priority=Priority.STAT)
    assert shown(sqlite_record) == [(StudyState.RECEIVING, Priority.STAT, "")] * 2
    say_why_it_waits(sqlite_record, STUDY, "a stored file cannot be read")
    assert shown(sqlite_record) == [(StudyState.RECEIVING, Priority.STAT, "a stored file cannot be read")] * 2


def shown(record: Engine) -> list[tuple[str, str, str]]:
    """Return state, priority and reason of the only study, as they are listed and as they are shown in detail."""
    views = (*list_studies(record, 1), show_study(record, STUDY))
    return [(view["state"], view["priority"], view["reason"]) for view in views]
