"""The machine's clock is set by hours while something waits for a time: nothing is lost, doubled, early or late.

The clock is set for every process, as by an administrator, by NTP, or when a virtual machine resumes after a pause.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from dicom_node.record.schema import deliveries
from dicom_node.record.studies import show_study
from tests.dicom_node.recording import rows
from tests.faults.clock import Clock, settable_clock
from tests.faults.conftest import Hospital, hospital_in
from tests.faults.pacs import Mood
from tests.faults.senders import LARGE, Scanner, associate
from tests.services import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.node]

HOUR = 3600
FORWARD_AND_BACK = pytest.mark.parametrize("jump_seconds", [3 * HOUR, -5 * HOUR], ids=["forward", "back"])


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    with settable_clock() as clock:
        yield clock


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Hospital]:
    """A hospital whose clock can be set, and whose PACS is asked for storage commitment."""
    quick = {"HILUM_DELIVERY__COMMITMENT_RETRY_SECONDS": "2"}
    with hospital_in(tmp_path_factory.mktemp("clock"), clock=clock, commitment=True, **quick) as there:
        first = Scanner(20).study(1)
        there.send(first)
        there.settled(first)  # a node that has just started knows a study's age only by the clock
        yield there


@pytest.fixture(autouse=True)
def _right_again(clock: Clock) -> Iterator[None]:
    yield
    clock.set_by(0)


@FORWARD_AND_BACK
def test_images_before_and_after_are_one_study(hospital: Hospital, clock: Clock, jump_seconds: int) -> None:
    study = Scanner(21).study(abs(jump_seconds))
    association = associate(hospital.site.port)
    for number, image in enumerate(study.images):
        if number == 6:
            clock.set_by(jump_seconds)
            time.sleep(2.5)  # long enough for the dispatcher to look at the study twice
        assert association.send_c_store(image).Status == 0x0000
        study.acknowledged.add(str(image.SOPInstanceUID))
    association.release()
    hospital.settled(study, 30)
    hospital.assert_answered_once(study)
    assert len(hospital.pacs.reports(study.study_instance_uid)) == 1


@FORWARD_AND_BACK
def test_a_job_that_waits_for_a_worker_is_done(hospital: Hospital, clock: Clock, jump_seconds: int) -> None:
    study = Scanner(22).study(abs(jump_seconds))
    workers = [hospital.site.services[name].pid for name in ("worker-1", "worker-2")]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        hospital.send(study)
        wait_until(lambda: show_study(hospital.record, study.study_instance_uid)["jobs"], "the job", 30)
        clock.set_by(jump_seconds)
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    hospital.settled(study, 30)
    hospital.assert_answered_once(study)


@FORWARD_AND_BACK
def test_a_job_that_a_worker_holds_is_answered_once(hospital: Hospital, clock: Clock, jump_seconds: int) -> None:
    study = Scanner(23, LARGE).study(abs(jump_seconds), LARGE[0])
    hospital.send(study)
    hospital.worker_at(study)
    clock.set_by(jump_seconds)
    hospital.settled(study, 60)
    hospital.assert_answered_once(study)
    (job,) = show_study(hospital.record, study.study_instance_uid)["jobs"]
    assert job["state"] == "done"


@FORWARD_AND_BACK
def test_a_job_whose_worker_died_is_taken_up_again(hospital: Hospital, clock: Clock, jump_seconds: int) -> None:
    study = Scanner(26, LARGE).study(abs(jump_seconds), LARGE[0])
    hospital.send(study)
    hospital.worker_at(study).kill()
    clock.set_by(jump_seconds)
    hospital.settled(study, 60)
    hospital.assert_answered_once(study)
    (job,) = show_study(hospital.record, study.study_instance_uid)["jobs"]
    assert (job["state"], job["attempts"]) == ("done", 2)


@FORWARD_AND_BACK
def test_what_waits_to_be_sent_again_is_sent(hospital: Hospital, clock: Clock, jump_seconds: int) -> None:
    study = Scanner(24).study(abs(jump_seconds))
    hospital.pacs.set_mood(Mood.DOWN)
    try:
        hospital.send(study)
        wait_until(lambda: any(row["attempts"] for row in pending(hospital)), "a first attempt", 60)
        clock.set_by(jump_seconds)
    finally:
        hospital.pacs.set_mood(Mood.WELL)
    hospital.settled(study, 30)
    hospital.assert_answered_once(study)


@FORWARD_AND_BACK
def test_a_commitment_that_is_awaited_is_asked_for_again(hospital: Hospital, clock: Clock, jump_seconds: int) -> None:
    study = Scanner(25).study(abs(jump_seconds))
    hospital.pacs.commits = False
    try:
        hospital.send(study)
        results = {held.sop_instance_uid for held in hospital.settled(study)}
        wait_until(lambda: results <= set(hospital.pacs.asked), "the request", 30)
        clock.set_by(jump_seconds)
    finally:
        hospital.pacs.commits = True
    wait_until(lambda: results <= committed(hospital), "the commitment", 30)


def pending(hospital: Hospital) -> list[dict[str, object]]:
    return [row for row in rows(hospital.record, deliveries) if row["state"] == "pending"]


def committed(hospital: Hospital) -> set[object]:
    return {row["sop_instance_uid"] for row in rows(hospital.record, deliveries) if row["committed_at"]}
