"""How the record takes in an instance, and what its arrival does to its study."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from pydicom.uid import SegmentationStorage
from sqlalchemy import Engine, select

from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.received import instances_of, receiving
from dicom_node.receive.intake import Arrival, Intake
from dicom_node.record.database import open_database, reading
from dicom_node.record.schema import associations, instances, studies
from dicom_node.settings import JobSettings, Settings
from dicom_node.study import Ending, JobState, Priority, Reception, StudyState
from tests.dicom_node.recording import (
    STORAGE,
    STUDY,
    Clock,
    claimed,
    instance,
    make_job,
    receive,
    record_one,
    results_of,
    rows,
    settled,
)


@pytest.fixture
def intake(record: Engine) -> Intake:
    return Intake(record)


def study_row(record: Engine) -> dict[str, object]:
    (row,) = rows(record, studies)
    return row


def test_the_first_bytes_are_new(intake: Intake, record: Engine) -> None:
    assert receive(intake, instance()) == [Reception.NEW]
    assert study_row(record)["state"] == StudyState.RECEIVING
    assert [i.sop_instance_uid for i in instances_of(record, STUDY)] == ["1.2.3.1.1"]


def test_an_object_of_as_many_bytes_as_may_come_is_recorded(intake: Intake, record: Engine) -> None:
    size_bytes = Settings.model_construct().node.maximum_object_bytes
    assert receive(intake, replace(instance(), size_bytes=size_bytes)) == [Reception.NEW]
    assert [row["size_bytes"] for row in rows(record, instances)] == [size_bytes]


def test_the_same_bytes_again_are_identical_and_change_nothing(intake: Intake, record: Engine, clock: Clock) -> None:
    receive(intake, instance())
    (activity,) = receiving(record)
    assert settled(record, activity)
    before = (rows(record, studies), rows(record, instances))
    assert receive(intake, instance()) == [Reception.IDENTICAL]
    assert (rows(record, studies), rows(record, instances)) == before


def stored_at(record: Engine) -> dict[object, object]:
    return {row["sop_instance_uid"]: row["stored_at"] for row in rows(record, instances)}


def test_a_study_that_arrives_again_is_active_again_and_the_record_is_changed_once_a_minute(
    intake: Intake, record: Engine, clock: Clock
) -> None:
    both = (instance("1.1"), instance("1.2"))
    receive(intake, *both)
    (activity,) = receiving(record)
    assert settled(record, activity)
    first = clock.seconds
    clock.pass_(3600)
    receive(intake, *both)
    assert stored_at(record) == {"1.1": first + 3600, "1.2": first}
    clock.pass_(61)
    receive(intake, *reversed(both))
    assert stored_at(record) == {"1.1": first + 3600, "1.2": first + 3661}


def test_an_activity_that_the_record_lost_is_recorded_with_the_next_arrival(
    intake: Intake, record: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    association = intake.open_association("SENDER", "HILUM", "127.0.0.1")
    record_one(intake, instance("1.1"), association)
    (activity,) = receiving(record)
    assert settled(record, activity)
    clock.pass_(3600)
    arrivals = [Arrival(one, association, Priority.ROUTINE) for one in (instance("1.1"), instance("1.2"))]
    with monkeypatch.context() as broken:
        broken.setattr("dicom_node.receive.intake.row", raise_error)
        with pytest.raises(OSError, match="fails"):
            intake.record_all(arrivals)
    assert stored_at(record) == {"1.1": clock.seconds - 3600}
    record_one(intake, instance("1.1"), association)
    assert stored_at(record) == {"1.1": clock.seconds}


def raise_error(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "it fails")


def test_an_image_that_arrives_again_does_not_delay_its_study(intake: Intake, record: Engine, clock: Clock) -> None:
    receive(intake, instance())
    before = receiving(record)
    clock.pass_(3600)
    receive(intake, instance())
    assert receiving(record) == before


def test_an_association_that_sends_a_study_again_from_the_start_carries_it(
    intake: Intake, record: Engine, clock: Clock
) -> None:
    sent = [instance(f"1.{number}") for number in range(4)]
    receive(intake, *sent)
    (before,) = receiving(record)
    clock.pass_(25)
    association = intake.open_association("SENDER", "HILUM", "127.0.0.1")
    for one in sent:
        clock.pass_(10)
        assert record_one(intake, one, association) is Reception.IDENTICAL
    (during,) = receiving(record)
    assert during == replace(before, last_carried_at=clock.seconds - 10)  # the newest tells when the study grew
    intake.close_association(association.association_id)
    assert receiving(record) == [before]


def test_other_bytes_under_the_same_uid_conflict_and_only_flag_the_study(intake: Intake, record: Engine) -> None:
    receive(intake, instance(content="first"))
    (activity,) = receiving(record)
    assert settled(record, activity)
    assert receive(intake, instance(content="second")) == [Reception.CONFLICT]
    assert study_row(record)["conflicting"]
    assert study_row(record)["state"] == StudyState.SELECTED
    assert [i.path for i in instances_of(record, STUDY)] == [instance(content="first").path]


def test_a_conflict_sent_again_is_identical(intake: Intake) -> None:
    receive(intake, instance(content="first"), instance(content="second"))
    assert receive(intake, instance(content="second")) == [Reception.IDENTICAL]


def test_a_result_routed_back_is_our_own_and_leaves_the_study_alone(intake: Intake, record: Engine) -> None:
    jobs = Jobs(record, JobSettings())
    job = claimed(jobs, make_job(record))
    assert jobs.finish(job, Ending(JobState.DONE), results_of(), ["PACS"])
    before = (rows(record, studies), rows(record, instances))
    own = instance(results_of()[0].sop_instance_uid, series="1.2.3.9", sop_class=SegmentationStorage)
    assert receive(intake, own) == [Reception.OWN_RESULT]
    assert (rows(record, studies), rows(record, instances)) == before


def test_our_result_routed_back_under_another_study_starts_nothing(intake: Intake, record: Engine) -> None:
    jobs = Jobs(record, JobSettings())
    job = claimed(jobs, make_job(record))
    jobs.finish(job, Ending(JobState.DONE), results_of(), [])
    moved = instance(results_of()[0].sop_instance_uid, study="1.2.77", sop_class=SegmentationStorage)
    assert receive(intake, moved) == [Reception.OWN_RESULT]
    assert receiving(record) == []


def test_a_segmentation_of_someone_else_is_new(intake: Intake) -> None:
    assert receive(intake, instance("1.9", sop_class=SegmentationStorage)) == [Reception.NEW]


def test_the_same_sop_instance_in_two_studies_is_no_conflict(intake: Intake) -> None:
    assert receive(intake, instance(content="a"), instance(content="b", study="1.2.4")) == [Reception.NEW] * 2


def test_one_stat_instance_makes_the_study_stat_for_good(intake: Intake, record: Engine) -> None:
    receive(intake, instance("1.1"), priority=Priority.ROUTINE)
    receive(intake, instance("1.2"), priority=Priority.STAT)
    receive(intake, instance("1.3"), priority=Priority.ROUTINE)
    assert study_row(record)["priority"] == Priority.STAT


@pytest.mark.parametrize("sop", ["1.2.3.1.0", "1.2.3.1.9"])
def test_a_job_that_waits_becomes_urgent_with_its_study(intake: Intake, record: Engine, sop: str) -> None:
    """Whether an image comes once more or anew: the radiologist cannot wait, and the job may be the last in a queue."""
    queue, job_id = Jobs(record, JobSettings()), make_job(record)
    assert queue.to_ring(lambda _: 0) == [(job_id, Priority.ROUTINE)]
    receive(intake, instance(sop), priority=Priority.STAT)
    assert study_row(record)["priority"] == Priority.STAT
    assert queue.to_ring(lambda _: 0) == [(job_id, Priority.STAT)]


def test_two_nodes_that_get_one_instance_at_once_agree_on_the_first(record_url: str) -> None:
    """Each node has its own engine, as separate processes have."""
    nodes = [Intake(open_database(record_url, STORAGE)) for _ in range(2)]
    arrived = [node.open_association("SENDER", "HILUM", "127.0.0.1") for node in nodes]
    with ThreadPoolExecutor(2) as pool:
        for number in range(15):
            barrier = Barrier(2)

            def deliver(node: int, number: int = number, barrier: Barrier = barrier) -> Reception:
                barrier.wait()
                return record_one(nodes[node], instance(f"1.{number}", f"bytes {node}"), arrived[node])

            assert sorted(pool.map(deliver, range(2))) == [Reception.CONFLICT, Reception.NEW]
    assert len(instances_of(nodes[0]._engine, STUDY)) == 15
    for node in nodes:
        node._engine.dispose()


def test_two_nodes_that_get_the_same_bytes_at_once_both_succeed(record_url: str) -> None:
    nodes = [Intake(open_database(record_url, STORAGE)) for _ in range(2)]
    arrived = [node.open_association("SENDER", "HILUM", "127.0.0.1") for node in nodes]
    with ThreadPoolExecutor(2) as pool:
        for number in range(15):
            barrier = Barrier(2)

            def deliver(node: int, number: int = number, barrier: Barrier = barrier) -> Reception:
                barrier.wait()
                return record_one(nodes[node], instance(f"1.{number}"), arrived[node])

            assert sorted(pool.map(deliver, range(2))) == [Reception.IDENTICAL, Reception.NEW]
    for node in nodes:
        node._engine.dispose()


def test_an_association_that_brought_nothing_new_leaves_no_row(intake: Intake, record: Engine) -> None:
    receive(intake, instance())
    before = rows(record, associations)
    assert receive(intake, instance()) == [Reception.IDENTICAL]
    assert rows(record, associations) == before


def test_an_association_that_was_forgotten_while_it_was_open_is_recorded_again(intake: Intake, record: Engine) -> None:
    association = intake.open_association("SENDER", "HILUM", "127.0.0.1")
    (before,) = rows(record, associations)
    with record.begin() as connection:
        connection.execute(associations.delete())
    assert record_one(intake, instance(), association) is Reception.NEW
    (after,) = rows(record, associations)
    assert after == before | {"opened_at": after["opened_at"]}


def test_forty_associations_at_once_lose_nothing(record: Engine, intake: Intake) -> None:
    def send(sender: int) -> list[Reception]:
        return receive(intake, *(instance(f"1.{sender}.{number}") for number in range(5)))

    with ThreadPoolExecutor(40) as pool:
        answers = [answer for answered in pool.map(send, range(40)) for answer in answered]
    assert answers == [Reception.NEW] * 200
    with reading(record) as connection:
        assert len(connection.execute(select(instances.c.instance_id)).all()) == 200


def test_a_lock_of_the_file_system_that_fails_once_holds_up_nothing_after(
    sqlite_record: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = Intake(sqlite_record)
    association = intake.open_association("SENDER", "HILUM", "127.0.0.1")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as broken:
        broken.setattr("dicom_node.receive.turn.fcntl.flock", fail)
        with pytest.raises(OSError, match="No locks"):
            record_one(intake, instance(), association)
    assert record_one(intake, instance(), association) is Reception.NEW
