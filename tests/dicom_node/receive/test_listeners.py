"""The node's listening processes: they share a port, and they end together."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dicom_node.hilum_node import Node, hilum_node, threads_of
from tests.services import missing, wait_until

pytestmark = pytest.mark.node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with hilum_node(tmp_path) as node:
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
    with socket.create_server(("127.0.0.1", 0)) as taken, hilum_node(tmp_path, taken.getsockname()[1]) as node:
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
