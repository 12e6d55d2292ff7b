"""The node's listening processes: they share a port, and they end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from tests.services import free_port, missing, wait_until

pytestmark = pytest.mark.node


class Node:
    """A running `hilum node`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def associate(self) -> Association:
        ae = AE()
        ae.add_requested_context(Verification)
        return ae.associate("127.0.0.1", self.port, ae_title="HILUM")

    def answers(self) -> bool:
        association = self.associate()
        if not association.is_established:
            return False
        status = association.send_c_echo().Status
        association.release()
        return bool(status == 0x0000)

    def others(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def started(folder: Path, port: int | None = None) -> Iterator[Node]:
    port = port or free_port()
    environment = os.environ | {
        "HILUM_NODE__PORT": str(port),
        "HILUM_STORAGE__FOLDER": str(folder / "storage"),
        "HILUM_BROKER__URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    log = folder / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "dicom_node", "node"]
        process = subprocess.Popen(command, env=environment, stderr=output, cwd=folder)
        try:
            yield Node(process, port, log)
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with started(tmp_path) as node:
        wait_until(node.answers, "hilum node")
        yield node


@pytest.fixture
def other(node: Node) -> int:
    """The process id of another listener; on a single core there is none."""
    if not (others := node.others()):
        missing("a second core")  # there is a second listening process only with it
    return others[0]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_listening_process_ends_on_sigterm(node: Node, other: int) -> None:
    node.process.terminate()
    assert node.process.wait(20) == 0
    assert not is_running(other)


def test_an_open_association_does_not_hold_up_the_end(node: Node) -> None:
    association = node.associate()
    assert association.is_established
    node.process.terminate()
    assert node.process.wait(20) == 0
    wait_until(lambda: association.is_aborted, "the peer hears of it")


def test_a_listening_process_that_breaks_ends_the_node_with_a_failure(node: Node, other: int) -> None:
    os.kill(other, signal.SIGKILL)
    assert node.process.wait(20) == 1
    assert b"a listening process ended by itself" in node.log.read_bytes()


def test_the_others_end_when_the_first_is_killed(node: Node, other: int) -> None:
    node.process.kill()
    wait_until(lambda: not is_running(other), "the other listener's end")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, started(tmp_path, taken.getsockname()[1]) as node:
        assert node.process.wait(60) == 1
        assert b"cannot listen on node.host 127.0.0.1" in node.log.read_bytes()


def test_both_processes_take_connections(node: Node, other: int) -> None:
    wait_until(lambda: min(threads_of(node.process.pid), threads_of(other)) >= 2, "both accept")
    opened, shares = [], [2, 2]  # in each process the main thread and the accepting one
    while min(shares) == 2 and len(opened) < 32:  # on a busy machine one process may get no connection at first
        opened.append(node.associate())
        shares = [threads_of(node.process.pid), threads_of(other)]  # counts no association before it is established
    for association in opened:
        association.release()
    assert min(shares) > 2, shares


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
