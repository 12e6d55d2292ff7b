"""Notifications: recorded with the study's outcome, sent once, retried with growing pauses, shown if they stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import Engine

from dicom_node.deliver.notifier import LEASE_SECONDS, Notifications, Notifier
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import NotAnalysable
from dicom_node.record.database import open_database
from dicom_node.record.schema import jobs, notifications
from dicom_node.settings import DeliverySettings, JobSettings, Settings
from dicom_node.study import Ending, JobState
from tests.dicom_node.delivering import write_results
from tests.dicom_node.notifying import DONE, end_study, finish_job, send_notifications, settings_with_webhook
from tests.dicom_node.pacs import storing_pacs
from tests.dicom_node.recording import STORAGE, STUDY, Clock, claimed, make_job, results_of, rows
from tests.dicom_node.webhooks import SECRET, answering, is_from_hilum, receiving
from tests.services import free_port, wait_until

REFUSED = Ending(JobState.REFUSED, "not-analysable", code="gap", message="a slice is missing")


def end_again_and_again(record: Engine, settings: Settings, *endings: Ending) -> str:
    """End one job in each of these ways, with a retry after each; return its ID."""
    queue, job_id = Jobs(record, JobSettings()), make_job(record)
    for ending in endings:
        job = claimed(queue, job_id)
        assert finish_job(record, job, settings, ending)
        with record.begin() as connection:
            connection.execute(jobs.update().values(given_up=True))
        queue.retry(STUDY)
    return job_id


def row_of(record: Engine) -> dict[str, Any]:
    (row,) = rows(record, notifications)
    return row


@pytest.fixture
def away(tmp_path: Path) -> Settings:
    """Settings with a webhook whose receiver is not running."""
    return settings_with_webhook(tmp_path, free_port())


def test_what_is_told_is_recorded_with_the_outcome_or_not_at_all(record: Engine, away: Settings) -> None:
    queue = Jobs(record, JobSettings())
    lost = claimed(queue, make_job(record))
    queue.give_back(lost, "lost", "the worker was lost")
    assert not finish_job(record, lost, away)
    assert rows(record, notifications) == []
    with record.begin() as connection:
        connection.execute(jobs.update().values(due_at=0.0))
    taken = claimed(queue, lost.job_id)
    assert finish_job(record, taken, away)
    assert row_of(record)["notification_id"] == f"{lost.job_id}.done"


def test_a_job_that_was_retried_is_told_again_only_if_it_ends_in_another_way(record: Engine, away: Settings) -> None:
    job_id = end_again_and_again(record, away, REFUSED, REFUSED, DONE)
    assert [row["notification_id"] for row in rows(record, notifications)] == [
        f"{job_id}.refused",
        f"{job_id}.done.2",
    ]


def test_a_study_whose_outcome_changes_back_is_told_again(record: Engine, away: Settings) -> None:
    job_id = end_again_and_again(record, away, REFUSED, DONE, REFUSED)
    told = rows(record, notifications)
    assert [row["notification_id"] for row in told] == [f"{job_id}.refused", f"{job_id}.done.2", f"{job_id}.refused.3"]
    assert [json.loads(str(row["body"]))["id"] for row in told] == [row["notification_id"] for row in told]


def test_a_notification_waits_for_the_earlier_ones_of_its_study(record: Engine, away: Settings, clock: Clock) -> None:
    """Else the receiver would be left with an outcome that has been replaced."""
    outbox, queue = Notifications(record, away), Jobs(record, JobSettings(maximum_attempts=1))
    job_id = end_again_and_again(record, away, REFUSED, DONE)
    revised = claimed(queue, make_job(record, instances=3))
    assert finish_job(record, revised, away)
    end_study(record, away, "1.2.4")
    first = outbox.claim()
    assert first is not None
    outbox.failed(*first, None, "away")
    other = outbox.claim()
    assert other is not None
    assert other[1].study_instance_uid == "1.2.4"
    assert outbox.claim() is None
    clock.pass_(10)
    heard = []
    while due := outbox.claim():
        heard.append(due[1].notification_id)
        outbox.sent(*due, 200)
    assert heard == [f"{job_id}.refused", f"{job_id}.done.2", f"{revised.job_id}.done"]


def test_a_revised_study_is_told_again_with_its_revision(record: Engine, away: Settings) -> None:
    for instances in (2, 3):
        job = Jobs(record, JobSettings()).claim(make_job(record, instances=instances))
        assert job is not None
        assert finish_job(record, job, away)
    told = [json.loads(str(row["body"]))["data"]["revision"] for row in rows(record, notifications)]
    assert told == [1, 2]


def fail(record: Engine, settings: Settings) -> Jobs:
    """Record a study that cannot be measured, and whose only attempt to report this has failed."""
    queue = Jobs(record, JobSettings(maximum_attempts=1), settings.notification)
    job = claimed(queue, make_job(record, rejection=NotAnalysable("gap", "a slice is missing")))
    queue.give_back(job, "defect", "a defect of Hilum")
    return queue


def test_a_study_that_failed_is_told_with_the_reason(record: Engine, away: Settings) -> None:
    fail(record, away)
    told = json.loads(row_of(record)["body"])
    assert told["type"] == "study.failed"
    assert (told["data"]["study_instance_uid"], told["data"]["revision"], told["data"]["outcome"]) == (STUDY, 1, None)
    assert told["data"]["reason"] == {"code": "defect", "message": "a defect of Hilum"}


def test_a_study_that_fails_again_after_a_retry_is_not_told_again(record: Engine, away: Settings) -> None:
    queue = fail(record, away)
    queue.retry(STUDY)
    job = claimed(queue, row_of(record)["job_id"])
    queue.give_back(job, "defect", "a defect of Hilum")
    assert row_of(record)["notification_id"] == f"{job.job_id}.failed"


def test_a_study_that_fails_because_its_workers_are_lost_is_told(record: Engine, away: Settings, clock: Clock) -> None:
    queue = Jobs(record, JobSettings(maximum_attempts=1), away.notification)
    assert queue.claim(make_job(record, rejection=NotAnalysable("gap", "a slice is missing")))
    clock.pass_(61)
    assert queue.sweep() == 1
    assert json.loads(row_of(record)["body"])["data"]["reason"]["code"] == "worker-lost"


def test_a_study_that_is_given_up_is_told_once_it_is_reported_on(record: Engine, away: Settings) -> None:
    queue = Jobs(record, JobSettings(maximum_attempts=1), away.notification)
    job = claimed(queue, make_job(record))
    queue.give_back(job, "defect", "a defect of Hilum")
    assert rows(record, notifications) == []


def test_what_was_taken_is_never_sent_again_whoever_starts_anew(record: Engine, tmp_path: Path, clock: Clock) -> None:
    with receiving() as receiver:
        settings = settings_with_webhook(tmp_path, receiver.port)
        end_study(record, settings)
        for _ in range(3):
            send_notifications(record, settings)
            clock.pass_(LEASE_SECONDS + 1)
        assert Notifications(record, settings).retry(STUDY) == 0
    ((_, headers, body),) = receiver.taken
    assert body.decode() == row_of(record)["body"]
    assert headers["webhook-id"] == row_of(record)["notification_id"]
    assert (row_of(record)["state"], row_of(record)["status"], row_of(record)["attempts"]) == ("sent", 204, 1)


def test_a_receiver_that_was_away_is_told_once_it_is_back(record: Engine, tmp_path: Path, clock: Clock) -> None:
    port = free_port()
    settings = settings_with_webhook(tmp_path, port)
    end_study(record, settings)
    send_notifications(record, settings)
    row = row_of(record)
    assert (row["state"], row["status"], row["attempts"]) == ("pending", None, 1)
    assert 5 <= row["due_at"] - clock.seconds <= 10
    with receiving(port=port) as receiver:
        send_notifications(record, settings)
        assert receiver.taken == []
        clock.pass_(10)
        send_notifications(record, settings)
    ((_, headers, body),) = receiver.taken
    assert body.decode() == row["body"]
    assert headers["webhook-timestamp"] == str(int(clock.seconds))
    assert row_of(record)["state"] == "sent"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_fault_of_the_receivers_own_is_tried_again(record: Engine, tmp_path: Path, status: int) -> None:
    with receiving(answering(status)) as receiver:
        settings = settings_with_webhook(tmp_path, receiver.port)
        end_study(record, settings)
        send_notifications(record, settings)
    assert (row_of(record)["state"], row_of(record)["status"]) == ("pending", status)


@pytest.mark.parametrize("status", [302, 400, 401, 410])
def test_a_refusal_stops_until_someone_asks_again(record: Engine, tmp_path: Path, clock: Clock, status: int) -> None:
    with receiving(answering(status)) as receiver:
        settings = settings_with_webhook(tmp_path, receiver.port)
        end_study(record, settings)
        for _ in range(3):
            send_notifications(record, settings)
            clock.pass_(1e6)
        assert len(receiver.taken) == 1
        assert (row_of(record)["state"], row_of(record)["status"]) == ("rejected", status)
        assert str(status) in str(row_of(record)["message"])
        assert Notifications(record, settings).retry("1.2.99") == 0
        assert Notifications(record, settings).retry(STUDY) == 1
        receiver.answer = answering(200)
        send_notifications(record, settings)
    assert receiver.ids[0] == receiver.ids[1]
    assert row_of(record)["state"] == "sent"


def test_a_sender_that_died_while_sending_is_followed_under_the_same_identifier(
    record: Engine, tmp_path: Path, clock: Clock
) -> None:
    with receiving() as receiver:
        settings = settings_with_webhook(tmp_path, receiver.port)
        end_study(record, settings)
        assert Notifications(record, settings).claim() is not None  # and dies
        send_notifications(record, settings)
        assert receiver.taken == []
        clock.pass_(LEASE_SECONDS + 1)
        send_notifications(record, settings)
    assert receiver.ids == [row_of(record)["notification_id"]]


def test_a_receiver_that_is_away_is_left_alone_and_hears_all_that_waits_once_it_is_back(
    record: Engine, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(answering(503)) as receiver:
        settings = settings_with_webhook(tmp_path, receiver.port)
        for number in range(8):
            end_study(record, settings, f"1.2.{number}")
        moment = 0.0
        monkeypatch.setattr("dicom_node.deliver.notifier.time.monotonic", lambda: moment)
        notifier = Notifier(Notifications(record, settings), settings)
        notifier.turn(threading.Event())
        assert len(receiver.taken) == 3
        receiver.taken.clear()
        receiver.answer = answering(200)
        moment = 61.0
        notifier.turn(threading.Event())
    assert len(set(receiver.ids)) == 8


def test_what_waits_for_a_receiver_is_tried_when_delivery_starts_again(record: Engine, tmp_path: Path) -> None:
    port, stop = free_port(), threading.Event()
    settings = settings_with_webhook(tmp_path, port).model_copy(
        update={"delivery": DeliverySettings(first_retry_seconds=1000)}
    )
    end_study(record, settings)
    send_notifications(record, settings)
    assert (row_of(record)["state"], row_of(record)["attempts"]) == ("pending", 1)
    running = threading.Thread(target=Notifier(Notifications(record, settings), settings).run, args=(stop,))
    with receiving(port=port):
        running.start()
        try:
            wait_until(lambda: row_of(record)["state"] == "sent", "the notification", 10)
        finally:
            stop.set()
            running.join()


def test_what_waits_is_told_with_the_first_that_a_receiver_takes_after_a_start(record: Engine, tmp_path: Path) -> None:
    port = free_port()
    settings = settings_with_webhook(tmp_path, port)
    end_study(record, settings)
    notifier = Notifier(Notifications(record, settings), settings)
    notifier.turn(threading.Event())  # the receiver is still away
    end_study(record, settings, "1.2.4")
    with receiving(port=port) as receiver:
        notifier.turn(threading.Event())
    assert len(receiver.ids) == 2


def test_two_senders_never_hold_the_same(record: Engine, record_url: str, away: Settings) -> None:
    end_study(record, away)
    other = open_database(record_url, STORAGE)
    claimed = [Notifications(engine, away).claim() for engine in (record, other)]
    other.dispose()
    assert claimed[0] is not None
    assert claimed[1] is None


def test_of_two_senders_that_see_the_same_one_gets_it(record: Engine, away: Settings) -> None:
    faster: list[object] = []

    class Slow:
        """An engine on which another sender claims between the query of this one and its claim."""

        connect, dialect = record.connect, record.dialect

        def begin(self) -> object:
            faster.append(Notifications(record, away).claim())
            return record.begin()

    end_study(record, away)
    assert Notifications(Slow(), away).claim() is None  # type: ignore[arg-type]  # has what is used of an Engine
    assert faster != [None]


def test_neither_secret_nor_url_is_logged(record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(answering(500)) as receiver, structlog.testing.capture_logs() as logged:
        url = f"http://localhost:{receiver.port}/telling?sig=telling"
        settings = settings_with_webhook(tmp_path, receiver.port, url=url)
        end_study(record, settings)
        send_notifications(record, settings)
        away = settings_with_webhook(tmp_path, 0, url=f"http://localhost:{free_port()}/telling?sig=telling")
        end_study(record, away, "1.2.4")
        send_notifications(record, away)
    assert [line["event"] for line in logged] == ["notification_ended"] * 2
    said = str(logged) + str([row["message"] for row in rows(record, notifications)])
    assert "telling" not in said
    assert SECRET[6:] not in said


@pytest.mark.node
def test_a_receiver_that_hangs_holds_up_no_pacs_and_a_killed_sender_repeats_nothing_that_was_taken(
    sqlite_record: Engine, tmp_path: Path
) -> None:
    hanging, released = threading.Event(), threading.Event()

    def hang(request: Any) -> None:
        if not hanging.is_set():
            hanging.set()
            released.wait(30)
        answering(200)(request)

    with storing_pacs() as archive, receiving(hang) as receiver:
        settings = settings_with_webhook(tmp_path, receiver.port)
        for study in ("1.2.1", "1.2.2"):
            write_results(tmp_path / study, study)
            job = Jobs(sqlite_record, JobSettings()).claim(make_job(sqlite_record, study=study))
            assert job is not None
            found = results_of(study, tmp_path / study)
            Jobs(sqlite_record, JobSettings(), settings.notification).finish(job, DONE, found, ["PACS"])
        (tmp_path / "hilum.toml").write_text(
            f'[database]\nurl = "{sqlite_record.url}"\n[notification]\nurl = "{settings.notification.url}"\n'
            f'secret = "webhook.secret"\n[[destinations]]\nname = "PACS"\nae_title = "PACS"\n'
            f'host = "127.0.0.1"\nport = {archive.port}\n'
        )

        def states() -> list[object]:
            return [row["state"] for row in rows(sqlite_record, notifications)]

        with delivering(tmp_path):
            wait_until(hanging.is_set, "the receiver to hang")
            wait_until(lambda: len(archive.taken) == 4, "the PACS to have everything")
            assert "sent" not in states()
            released.set()
            wait_until(lambda: states() == ["sent", "sent"], "both to be told")
        end_study(sqlite_record, settings, "1.2.3")
        with delivering(tmp_path):
            wait_until(lambda: states() == ["sent"] * 3, "the third to be told")
    assert sorted(receiver.ids) == sorted(str(row["notification_id"]) for row in rows(sqlite_record, notifications))
    assert all(is_from_hilum(SECRET, headers, body) for _, headers, body in receiver.taken)


class delivering:  # noqa: N801 - used as a function, in a with statement
    """Run `hilum deliver` in a folder, and kill it at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        command = [sys.executable, "-m", "dicom_node", "deliver"]
        self._process = subprocess.Popen(command, cwd=self._folder, stderr=subprocess.DEVNULL)

    def __exit__(self, *_: object) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
