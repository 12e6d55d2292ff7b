"""How a worker runs jobs: with priors, with leases, and when the storage or the record fails."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError

from dicom_node.dispatch.jobs import Jobs
from dicom_node.files import Files, make_folder
from dicom_node.record.database import open_database
from dicom_node.record.paths import as_file
from dicom_node.record.schema import deliveries, jobs, notifications, results
from dicom_node.settings import Settings
from dicom_node.study import DeliveryState, Ending, Job, JobState
from tests.dicom_node.recording import STUDY, make_job, rows
from tests.services import wait_until
from worker.answer import Answer
from worker.reports import WrittenObject
from worker.tasks import JobRunner


@pytest.fixture(autouse=True)
def images(tmp_path: Path) -> Path:
    """The folder of the images, which shows a worker that its storage is mounted."""
    folder = tmp_path / "instances"
    folder.mkdir()
    return folder


def states(record: Engine) -> list[tuple[object, object, object]]:
    return [(row["state"], row["attempts"], row["code"]) for row in rows(record, jobs)]


def test_a_worker_records_what_the_webhook_is_told_and_needs_no_secret(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tasks.answer_study", lambda *_: Answer(Ending(JobState.DONE)))
    monkeypatch.setattr("worker.tasks.sync_tree", lambda _: None)
    webhook = {"url": "https://worklist.example/hilum", "secret": tmp_path / "nowhere"}
    settings = Settings(database={"url": sqlite_url}, storage={"folder": tmp_path}, notification=webhook)
    record = open_database(sqlite_url, tmp_path)
    job_id = make_job(record)

    JobRunner(settings).run(job_id)

    assert [row["notification_id"] for row in rows(record, notifications)] == [f"{job_id}.done"]


@pytest.mark.parametrize(("attempts", "left_out"), [(0, False), (1, True)])
def test_a_job_that_failed_with_a_prior_goes_on_without_it(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, attempts: int, left_out: bool
) -> None:
    told: list[Any] = []

    def answer(*arguments: Any) -> Answer:
        told.extend(arguments[-1])
        return Answer(Ending(JobState.DONE))

    monkeypatch.setattr("worker.tasks.answer_study", answer)
    monkeypatch.setattr("worker.tasks.measure_fetched", lambda *_: ["measured"])
    monkeypatch.setattr("worker.tasks.leave_out_fetched", lambda *arguments: ["left out", arguments[-1]])
    monkeypatch.setattr("worker.tasks.sync_tree", lambda _: None)
    pacs = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    settings = Settings(
        database={"url": sqlite_url},
        storage={"folder": tmp_path},
        destinations=[pacs],
        priors={"source": "PACS", "analyze": True},
    )
    with Files(tmp_path).fetching_prior(STUDY) as keep:
        keep("1.2.9", b"image")
    record = open_database(sqlite_url, tmp_path)
    job_id = make_job(record)
    with record.begin() as connection:
        connection.execute(update(jobs).values(attempts=attempts))

    JobRunner(settings).run(job_id)

    reason = "an earlier attempt to measure this study failed, so the prior was left out, to be safe"
    assert told == (["left out", reason] if left_out else ["measured"])


def test_a_worker_that_can_begin_no_more_threads_answers_all_the_same(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # Python's error for a lack of memory

    monkeypatch.setattr("worker.tasks.answer_study", lambda *_: Answer(Ending(JobState.REFUSED)))
    monkeypatch.setattr("worker.tasks.sync_tree", lambda _: None)
    record = open_database(sqlite_url, tmp_path)
    job_id = make_job(record)
    runner = JobRunner(Settings(database={"url": sqlite_url}, storage={"folder": tmp_path}))
    monkeypatch.setattr(threading.Thread, "start", refuse)

    runner.run(job_id)

    assert [row["state"] for row in rows(record, jobs)] == [JobState.REFUSED]


def test_every_job_of_a_worker_keeps_its_lease_though_the_record_fails_once(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = open_database(sqlite_url, tmp_path)
    failures = iter([MemoryError()])
    renew = Jobs.renew

    def fail_once(self: Jobs, job: Job, stage: str) -> bool:
        if failure := next(failures, None):
            raise failure
        return renew(self, job, stage)

    def lease() -> float:
        (until,) = (row["lease_until"] for row in rows(record, jobs) if row["state"] == JobState.RUNNING)
        return float(until)

    def answer(*_: Any) -> Answer:
        begun = lease()
        wait_until(lambda: lease() > begun, "a longer lease", 20)
        return Answer(Ending(JobState.DONE))

    monkeypatch.setattr(Jobs, "renew", fail_once)
    monkeypatch.setattr("worker.tasks.answer_study", answer)
    monkeypatch.setattr("worker.tasks.sync_tree", lambda _: None)
    settings = Settings(database={"url": sqlite_url}, storage={"folder": tmp_path}, jobs={"lease_seconds": 0.6})
    runner = JobRunner(settings)
    for study in ("1.2.3", "1.2.4"):
        runner.run(make_job(record, study=study))

    assert [row["state"] for row in rows(record, jobs)] == [JobState.DONE, JobState.DONE]


def test_while_the_storage_fails_no_job_is_claimed(
    tmp_path: Path, images: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tasks.answer_study", lambda *_: Answer(Ending(JobState.DONE)))
    monkeypatch.setattr("worker.tasks.sync_tree", lambda _: None)
    monkeypatch.setattr("worker.tasks.STORAGE_PAUSE_SECONDS", 0)
    record = open_database(sqlite_url, tmp_path)
    job_id = make_job(record)
    runner = JobRunner(Settings(database={"url": sqlite_url}, storage={"folder": tmp_path}))

    images.rename(tmp_path / "elsewhere")  # looks like an empty mount point
    runner.run(job_id)
    assert states(record) == [(JobState.QUEUED, 0, "")]
    (tmp_path / "elsewhere").rename(images)
    with monkeypatch.context() as full:
        full.setattr(Files, "free_bytes", lambda _: 2**20)
        runner.run(job_id)
    assert states(record) == [(JobState.QUEUED, 0, "")]
    runner.run(job_id)
    assert states(record) == [(JobState.DONE, 1, "")]


def test_a_record_that_does_not_answer_costs_a_bell_and_a_line(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    record = open_database(sqlite_url, tmp_path)
    job_id = make_job(record)
    runner = JobRunner(Settings(database={"url": sqlite_url}, storage={"folder": tmp_path}))

    def fail(*_: object) -> None:
        raise OperationalError("UPDATE jobs", {}, ConnectionRefusedError())

    monkeypatch.setattr(Jobs, "claim", fail)
    monkeypatch.setattr("worker.tasks.log.warning", lambda action, **fields: told.append((action, fields)))

    runner.run(job_id)

    assert told == [("job_not_claimed", {"job_id": job_id, "error": "ConnectionRefusedError"})]
    assert states(record) == [(JobState.QUEUED, 0, "")]


def test_a_job_during_which_the_storage_fails_is_tried_again_and_leaves_nothing(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(*arguments: Any) -> Answer:
        out: Path = arguments[2]
        out.mkdir(parents=True)
        (out / "lungs.dcm").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("worker.tasks.answer_study", fill_the_disk)
    record = open_database(sqlite_url, tmp_path)
    job_id = make_job(record)

    JobRunner(Settings(database={"url": sqlite_url}, storage={"folder": tmp_path})).run(job_id)

    assert states(record) == [(JobState.QUEUED, 1, "storage-failed")]
    assert not list((tmp_path / "results").rglob("*.dcm"))


def test_every_folder_of_a_job_is_synced_into_the_one_above_before_the_record_names_it(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: set[Path] = set()
    finish, mkdir, fsync = Jobs.finish, os.mkdir, os.fsync

    def logged_mkdir(path: Path, *arguments: Any) -> None:
        mkdir(path, *arguments)
        made.add(Path(path))

    def logged_fsync(descriptor: int) -> None:
        fsync(descriptor)
        above = Path(f"/proc/self/fd/{descriptor}").readlink()
        made.difference_update([folder for folder in made if folder.parent == above])

    def write(*arguments: Any) -> Answer:
        make_folder(arguments[2])
        (arguments[2] / "lungs.dcm").write_bytes(b"whole")
        return Answer(Ending(JobState.DONE))

    def checked_finish(*arguments: Any, **options: Any) -> bool:
        assert not made
        return finish(*arguments, **options)

    monkeypatch.setattr("worker.tasks.answer_study", write)
    monkeypatch.setattr(Jobs, "finish", checked_finish)
    record = open_database(sqlite_url, tmp_path)
    job_id = make_job(record)
    runner = JobRunner(Settings(database={"url": sqlite_url}, storage={"folder": tmp_path}))
    monkeypatch.setattr("os.mkdir", logged_mkdir)
    monkeypatch.setattr("os.fsync", logged_fsync)

    runner.run(job_id)

    assert states(record) == [(JobState.DONE, 1, "")]
    assert list((tmp_path / "results" / STUDY / job_id).glob("*/lungs.dcm"))


@pytest.mark.parametrize("is_back", [True, False])
def test_results_stay_where_the_answer_to_their_commit_is_lost(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, is_back: bool
) -> None:
    finish, give_back = Jobs.finish, Jobs.give_back

    def write(*arguments: Any) -> Answer:
        path = arguments[2] / "report.dcm"
        Files(tmp_path).write(path, [b"report"])
        made = WrittenObject("1.2.9", ComprehensiveSRStorage, ExplicitVRLittleEndian, "report", path, "1.2.8")
        return Answer(Ending(JobState.DONE), (made,))

    def finish_and_die(*arguments: Any, **others: Any) -> bool:
        finish(*arguments, **others)
        raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

    def give_back_if_it_is_back(*arguments: Any) -> bool:
        if not is_back:
            raise OperationalError("UPDATE", None, Exception("connection refused"))
        return give_back(*arguments)

    monkeypatch.setattr("worker.tasks.answer_study", write)
    monkeypatch.setattr(Jobs, "finish", finish_and_die)
    monkeypatch.setattr(Jobs, "give_back", give_back_if_it_is_back)
    record = open_database(sqlite_url, tmp_path)
    pacs = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    settings = Settings(database={"url": sqlite_url}, storage={"folder": tmp_path}, destinations=[pacs])

    JobRunner(settings).run(make_job(record))

    assert [as_file(record, str(row["path"])).read_bytes() for row in rows(record, results)] == [b"report"]
    assert [row["state"] for row in rows(record, deliveries)] == [DeliveryState.PENDING]
