"""The doorbell, a Celery message that a job is due: on a real Redis, heard by a real Celery worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.dispatch.doorbell import ANALYZE, Doorbell, make_celery
from dicom_node.errors import PassingFailure
from dicom_node.study import Priority
from tests.services import RedisServer, free_port, wait_until

pytestmark = pytest.mark.node

WORKER = """
import os, sys, time
from dicom_node.dispatch.doorbell import ANALYZE, listen, make_celery
app = make_celery(sys.argv[1])
@app.task(name=ANALYZE)
def analyze(job_id):
    with open(sys.argv[2], "a") as heard:
        print(job_id, file=heard, flush=True)
    time.sleep(float(sys.argv[3]))
if len(sys.argv) > 4:
    app.conf.broker_connection_max_retries = int(sys.argv[4])
sys.exit(listen(app, f"hilum-{os.getpid()}@test"))
"""


@contextmanager
def listening(
    url: str, heard: Path, seconds: float = 0.0, tries: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", WORKER, url, str(heard), str(seconds), *([str(tries)] if tries else [])]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(heard: Path) -> list[str]:
    return heard.read_text().split() if heard.exists() else []


@pytest.fixture
def doorbell(redis_server: RedisServer) -> Doorbell:
    return Doorbell(make_celery(redis_server.url))


def test_a_bell_carries_the_jobs_id_and_nothing_else(doorbell: Doorbell, redis_server: RedisServer) -> None:
    doorbell.ring("job-1", Priority.STAT)
    assert redis_server.client.llen("routine") == 0
    message = json.loads(redis_server.client.lrange("stat", 0, -1)[0])
    assert message["headers"]["task"] == ANALYZE
    assert message["content-type"] == "application/json"
    assert "job-1" in message["headers"]["argsrepr"]


def test_every_stat_job_is_heard_before_any_routine_one(
    doorbell: Doorbell, redis_server: RedisServer, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    for number in range(4):
        doorbell.ring(f"routine-{number}", Priority.ROUTINE)
    for number in range(4):
        doorbell.ring(f"stat-{number}", Priority.STAT)
    with listening(redis_server.url, heard):
        wait_until(lambda: len(said(heard)) == 8, "eight jobs")
    assert said(heard) == [f"stat-{n}" for n in range(4)] + [f"routine-{n}" for n in range(4)]


def test_a_worker_holds_no_second_job_while_it_works(
    doorbell: Doorbell, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Else a stat job would wait behind a routine job that was fetched too early."""
    heard = tmp_path / "heard"
    for number in range(3):
        doorbell.ring(f"routine-{number}", Priority.ROUTINE)
    with listening(redis_server.url, heard, seconds=2.0):
        wait_until(lambda: said(heard) == ["routine-0"], "the first job")
        doorbell.ring("stat", Priority.STAT)
        wait_until(lambda: len(said(heard)) == 2, "the second job")
    assert said(heard) == ["routine-0", "stat"]


def test_bells_are_counted_until_they_are_heard(doorbell: Doorbell, redis_server: RedisServer, tmp_path: Path) -> None:
    assert doorbell.count_unheard(Priority.ROUTINE) == 0
    doorbell.ring("job-1", Priority.ROUTINE)
    doorbell.ring("job-2", Priority.ROUTINE)
    assert doorbell.count_unheard(Priority.ROUTINE) == 2
    with listening(redis_server.url, tmp_path / "heard"):
        wait_until(lambda: doorbell.count_unheard(Priority.ROUTINE) == 0, "a worker")


def test_bells_of_each_queue_are_counted_by_themselves(doorbell: Doorbell) -> None:
    doorbell.ring("job-1", Priority.STAT)
    assert [doorbell.count_unheard(queue) for queue in (Priority.STAT, Priority.ROUTINE)] == [1, 0]


def test_bells_of_a_broker_that_is_down_cannot_be_counted(doorbell: Doorbell, redis_server: RedisServer) -> None:
    redis_server.stop()
    with pytest.raises(PassingFailure):
        doorbell.count_unheard(Priority.ROUTINE)


def test_a_broker_that_goes_down_between_two_counts_is_a_passing_failure(
    doorbell: Doorbell, redis_server: RedisServer
) -> None:
    doorbell.ring("job-1", Priority.ROUTINE)
    assert doorbell.count_unheard(Priority.ROUTINE) == 1
    redis_server.stop()
    for _ in range(3):
        with pytest.raises(PassingFailure):
            doorbell.count_unheard(Priority.ROUTINE)
    redis_server.start()
    assert doorbell.count_unheard(Priority.ROUTINE) == 0


def test_a_broker_that_is_down_is_a_passing_failure(redis_server: RedisServer) -> None:
    doorbell = Doorbell(make_celery(redis_server.url))
    doorbell.ring("job-1", Priority.ROUTINE)
    redis_server.stop()
    with pytest.raises(PassingFailure):
        doorbell.ring("job-2", Priority.ROUTINE)
    redis_server.start()
    doorbell.ring("job-3", Priority.ROUTINE)
    assert redis_server.client.llen("routine") == 1


def test_a_broker_that_never_was_there_is_a_passing_failure() -> None:
    with pytest.raises(PassingFailure):
        Doorbell(make_celery(f"redis://127.0.0.1:{free_port()}/0")).ring("job-1", Priority.ROUTINE)


def test_a_worker_waits_for_its_broker_without_end() -> None:
    assert make_celery("redis://").conf.broker_connection_max_retries is None


def test_a_worker_that_cannot_go_on_tells_so_by_its_status(tmp_path: Path) -> None:
    """Else systemd would take its end for a requested stop, and not start it again."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with listening(nowhere, tmp_path / "heard", tries=1) as process:
        assert process.wait(60) == 1


def test_a_worker_that_is_told_to_stop_ends_well(doorbell: Doorbell, redis_server: RedisServer, tmp_path: Path) -> None:
    doorbell.ring("job-1", Priority.ROUTINE)
    with listening(redis_server.url, tmp_path / "heard") as process:
        wait_until(lambda: said(tmp_path / "heard"), "a worker")
        process.terminate()
        assert process.wait(60) == 0


def test_a_broker_that_is_down_is_asked_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    with pytest.raises(PassingFailure):
        Doorbell(make_celery(f"redis://127.0.0.1:{free_port()}/0")).ring("job-1", Priority.ROUTINE)
    assert sum(pauses) < 1


def test_a_broker_that_hangs_is_a_passing_failure(redis_server: RedisServer) -> None:
    app = make_celery(redis_server.url)
    app.conf.broker_transport_options = app.conf.broker_transport_options | {"socket_timeout": 1}
    doorbell = Doorbell(app)
    doorbell.ring("job-1", Priority.ROUTINE)
    assert redis_server.process is not None
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(PassingFailure):
            doorbell.ring("job-2", Priority.ROUTINE)
    finally:
        os.kill(redis_server.process.pid, signal.SIGCONT)


def test_a_broker_that_refuses_the_password_is_a_passing_failure(redis_server: RedisServer) -> None:
    redis_server.client.config_set("requirepass", "s3cret")
    with pytest.raises(PassingFailure) as raised:
        Doorbell(make_celery(redis_server.url)).ring("job-1", Priority.ROUTINE)
    assert "s3cret" not in raised.value.message
