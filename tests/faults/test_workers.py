"""Workers that freeze, run out of memory, are killed by a study, or get the same job twice."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pydicom
import pytest

from dicom_node.dispatch.doorbell import Doorbell, make_celery
from dicom_node.record.studies import show_study
from dicom_node.study import Priority
from tests.faults.conftest import Hospital
from tests.faults.pacs import Held
from tests.faults.senders import LARGE, Scanner, Study
from tests.faults.site import Service
from tests.services import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.node]

TOO_LARGE = (72, 512, 512)
"""Its volume is 38 MB. More than 32 MB are always requested from the system, so memory freed before does not help."""
ROOM_MB = 20.0
"""Enough to write a report for a worker that has written one before; the first report needs over 100 MB."""


def said_in(report: Held) -> str:
    """Return all the text of a report."""
    ds = pydicom.dcmread(report.path, force=True)
    return " ".join(str(element.value) for element in ds.iterall() if element.VR == "UT")


def the_report(held: list[Held]) -> Held:
    (report,) = {one.sop_instance_uid: one for one in held if one.modality == "SR"}.values()
    return report


def test_a_worker_frozen_beyond_its_lease_adds_nothing(hospital: Hospital) -> None:
    study = Scanner(2, LARGE).study(1, LARGE[0])
    hospital.send(study)
    worker = hospital.worker_at(study)
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        hospital.settled(study)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    wait_until(lambda: worker.events("lease_lost"), "the frozen worker's end of the job", 60)
    time.sleep(2.0)  # by now it has sent whatever it would send
    hospital.assert_answered_once(study)
    (job,) = show_study(hospital.record, study.study_instance_uid)["jobs"]
    assert (job["state"], job["attempts"]) == ("done", 2)


def test_a_study_that_kills_its_worker_every_time_is_reported_and_the_queue_goes_on(hospital: Hospital) -> None:
    poison, others = Scanner(3, LARGE).study(1, LARGE[0]), [Scanner(3).study(number) for number in range(2, 5)]
    hospital.send(poison)
    for study in others:
        hospital.send(study)
    for attempt in (1, 2, 3):
        os.kill(hospital.worker_at(poison, attempt).pid, signal.SIGKILL)
    report = the_report(hospital.settled(poison))
    assert "Not analysed" in said_in(report)
    assert "stopped answering" in said_in(report)
    for study in others:
        assert {held.modality for held in hospital.settled(study)} >= {"SEG", "SR"}
    hospital.assert_answered_once(poison, *others)


def test_a_study_too_large_for_the_workers_memory_is_reported_and_the_queue_goes_on(hospital: Hospital) -> None:
    too_short, large, small = Scanner(4).study(1, 3), Scanner(4, TOO_LARGE).study(2, TOO_LARGE[0]), Scanner(4).study(3)
    hospital.site.stop("worker-2")
    worker = hospital.site.services["worker-1"]
    try:
        hospital.site.kill_until_ready("worker-1")  # so that it holds no free memory from earlier jobs
        hospital.send(too_short)
        hospital.settled(too_short)
        limit_memory(worker, ROOM_MB)
        hospital.send(large)
        report = the_report(hospital.settled(large))
        assert "Not analysed" in said_in(report)
        assert "not enough memory" in said_in(report)
    finally:
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        hospital.site.services["worker-2"].wanted = True
    hospital.send(small)
    hospital.settled(small)
    hospital.assert_answered_once(too_short, large, small)


def test_a_worker_that_ends_a_job_while_redis_is_away_takes_the_next_one(hospital: Hospital) -> None:
    hospital.site.kill_until_ready("redis")
    hospital.send(before := Scanner(11).study(1))
    hospital.settled(before)
    first, second = Scanner(11, LARGE).study(2, LARGE[0]), Scanner(11).study(3)
    hospital.send(first)
    worker = hospital.worker_at(first)
    (other,) = [service for name, service in hospital.site.services.items() if "worker" in name and service != worker]
    hospital.site.stop("redis")
    wait_until(lambda: ended(worker, first), "the end of its job", 60)
    os.kill(other.pid, signal.SIGSTOP)
    try:
        hospital.site.services["redis"].wanted = True
        hospital.send(second)
        wait_until(lambda: ended(worker, second), "the end of its next job", 60)
    finally:
        os.kill(other.pid, signal.SIGCONT)
    hospital.settled(second)
    hospital.assert_answered_once(first, second)


def ended(worker: Service, study: Study) -> bool:
    return study.study_instance_uid in [event["study_instance_uid"] for event in worker.events("job_ended")]


def limit_memory(worker: Service, more_mb: float) -> None:
    """Limit the growth of a process's address space to this many MB (of 2**20 bytes)."""
    pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(more_mb * 2**20)
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def test_two_workers_with_the_same_job_answer_once(hospital: Hospital) -> None:
    study = Scanner(5, LARGE).study(1, LARGE[0])
    hospital.send(study)
    hospital.worker_at(study)
    (job,) = show_study(hospital.record, study.study_instance_uid)["jobs"]
    ring(hospital, job["job_id"], 10)
    hospital.settled(study)
    ring(hospital, job["job_id"], 10)
    wait_until(lambda: bells(hospital) == 0, "the workers to hear every bell", 30)
    hospital.assert_answered_once(study)
    (job,) = show_study(hospital.record, study.study_instance_uid)["jobs"]
    assert job["attempts"] == 1


def doorbell(hospital: Hospital) -> Doorbell:
    return Doorbell(make_celery(hospital.site.services["node"].environment["HILUM_BROKER__URL"]))


def ring(hospital: Hospital, job_id: str, times: int) -> None:
    for _ in range(times):
        doorbell(hospital).ring(job_id, Priority.ROUTINE)


def bells(hospital: Hospital) -> int:
    return sum(map(doorbell(hospital).count_unheard, Priority))
