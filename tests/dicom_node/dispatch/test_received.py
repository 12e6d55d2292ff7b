"""Studies that wait to be dispatched, and how they leave that state."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from dicom_node.dispatch.received import leave_receiving, receiving
from dicom_node.receive.intake import Intake
from dicom_node.record.schema import series, studies
from dicom_node.study import StudyState
from tests.dicom_node.recording import STUDY, Clock, instance, receive, record_one, rows, settled


@pytest.fixture
def intake(record: Engine) -> Intake:
    return Intake(record)


def test_a_late_instance_leads_a_settled_study_back(intake: Intake, record: Engine) -> None:
    receive(intake, instance("1.1"))
    (activity,) = receiving(record)
    assert settled(record, activity)
    assert receiving(record) == []
    receive(intake, instance("1.2"))
    assert len(receiving(record)) == 1


def test_a_study_that_grew_meanwhile_is_not_settled(intake: Intake, record: Engine) -> None:
    receive(intake, instance("1.1"))
    (activity,) = receiving(record)
    receive(intake, instance("1.2"))
    assert not settled(record, activity)
    assert [row["state"] for row in rows(record, studies)] == [StudyState.RECEIVING]


def test_a_study_is_settled_once(intake: Intake, record: Engine) -> None:
    receive(intake, instance())
    (activity,) = receiving(record)
    assert settled(record, activity)
    assert not settled(record, activity)


def test_settling_writes_down_the_reason_of_each_series_and_replaces_earlier_ones(
    intake: Intake, record: Engine
) -> None:
    for number, reasons in enumerate([{"1": "too short", "2": "no CT"}, {"1": "selected"}]):
        receive(intake, instance(f"1.{number}"))
        (activity,) = receiving(record)
        with record.begin() as connection:
            assert leave_receiving(connection, activity, StudyState.SELECTED, "", reasons, "1")
    assert [(row["series_instance_uid"], row["selected"], row["reason"]) for row in rows(record, series)] == [
        ("1", True, "selected")
    ]


def test_an_open_association_carries_what_it_brought_until_it_ends(
    intake: Intake, record: Engine, clock: Clock
) -> None:
    association = intake.open_association("SENDER", "HILUM", "127.0.0.1")
    record_one(intake, instance("1.1"), association)
    first = clock.seconds
    clock.pass_(10)
    receive(intake, instance("1.2"))
    (activity,) = receiving(record)
    assert (activity.last_instance_at, activity.last_carried_at) == (clock.seconds, first)
    for _ in range(2):  # ending twice is harmless
        intake.close_association(association.association_id)
    (activity,) = receiving(record)
    assert (activity.last_instance_at, activity.last_carried_at) == (clock.seconds, None)


def test_an_association_carries_only_its_own_studies(intake: Intake, record: Engine) -> None:
    association = intake.open_association("SENDER", "HILUM", "127.0.0.1")
    record_one(intake, instance(study="1.2.4"), association)
    receive(intake, instance())
    carried = {activity.study_instance_uid: activity.last_carried_at for activity in receiving(record)}
    assert carried["1.2.4"] is not None
    assert carried[STUDY] is None
