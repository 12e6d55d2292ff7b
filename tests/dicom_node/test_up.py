"""`hilum up`, all of Hilum on one machine: it starts, restarts processes that die, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from dicom_node.up import restart_pause
from tests.services import RedisServer, Up, hilum_up, wait_until

pytestmark = pytest.mark.node

CHILDREN = {"redis", "node", "deliver", "worker"}


def gone(processes: list[psutil.Process]) -> bool:
    return not any(is_alive(process) for process in processes)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # the process ended between the two calls
        return False


def ends_of(up: Up, name: str) -> list[dict[str, Any]]:
    return [event for event in up.events("ended") if event["outcome"] == name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_everything_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with hilum_up(tmp_path) as up:
        wait_until(up.ready, "node and worker", 60)
        assert set(up.pids()) == CHILDREN
        processes = up.tree
        assert len(processes) >= len(CHILDREN)
        up.process.send_signal(number)
        assert up.process.wait(30) == 0
        assert gone(processes)
        assert list(up.runtime.iterdir()) == []
        assert not up.events("killed")


def test_a_child_that_is_killed_comes_back(tmp_path: Path) -> None:
    with hilum_up(tmp_path) as up:
        wait_until(up.ready, "node and worker", 60)
        before = up.pids()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(up.pids()[name] != pid for name, pid in before.items()), "four new processes", 60)
        wait_until(lambda: len(up.events("listening")) == 2, "the node", 60)
        assert up.process.poll() is None


def test_its_children_end_with_it_even_when_it_is_killed(tmp_path: Path) -> None:
    with hilum_up(tmp_path) as up:
        wait_until(up.ready, "node and worker", 60)
        processes = up.tree
        up.process.kill()
        wait_until(lambda: gone(processes), "the end of the children", 40)


def test_what_cannot_start_ends_it_with_the_reason(tmp_path: Path) -> None:
    with hilum_up(tmp_path) as other:
        wait_until(other.listens, "the node", 60)
        command = [sys.executable, "-m", "dicom_node", "up"]
        environment = os.environ | {"HILUM_NODE__PORT": str(other.port), "HILUM_STORAGE__FOLDER": str(tmp_path / "b")}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
    assert done.returncode == 1
    assert f"port {other.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_redis_that_is_given_is_used(tmp_path: Path, redis_server: RedisServer) -> None:
    with hilum_up(tmp_path, HILUM_BROKER__URL=redis_server.url) as up:
        wait_until(up.ready, "node and worker", 60)
        assert set(up.pids()) == CHILDREN - {"redis"}


def test_its_own_redis_is_closed_to_other_users_and_the_network(tmp_path: Path) -> None:
    with hilum_up(tmp_path) as up:
        wait_until(up.ready, "node and worker", 60)
        (socket,) = up.runtime.rglob("redis.sock")
        assert socket.stat().st_mode & 0o077 == 0
        assert socket.parent.stat().st_mode & 0o077 == 0
        client = redis.Redis(unix_socket_path=str(socket))
        assert client.config_get("port")["port"] == "0"
        client.close()


def test_a_worker_that_dies_at_every_start_does_not_keep_the_others_down(tmp_path: Path) -> None:
    """While one child waits for its restart, the others are still watched and restarted."""
    with hilum_up(tmp_path) as up:
        wait_until(up.ready, "node and worker", 60)
        for crash in range(1, 4):
            os.kill(up.pids()["worker"], signal.SIGKILL)
            wait_until(lambda crash=crash: len(ends_of(up, "worker")) == crash, "the end of the worker")
            begun = len(up.events("started"))
            if crash < 3:
                wait_until(lambda begun=begun: len(up.events("started")) > begun, "a new worker")
        os.kill(up.pids()["node"], signal.SIGKILL)
        wait_until(lambda: len(up.events("started")) > begun, "whatever is started first")
        assert up.events("started")[begun]["outcome"] == "node"


@pytest.mark.parametrize("crashes", [1, 2, 5, 100])
def test_the_pause_before_a_start_grows_and_leaves_time_within_the_sweep_interval(crashes: int) -> None:
    assert restart_pause(crashes, 15.0) == min(2.0**crashes, 7.5)
