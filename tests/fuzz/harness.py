"""Sends cases to a real `hilum node`; checks that it keeps running, answers correctly and stays in its folder."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from dicom_node.embedded import find_redis
from tests.dicom_node.raw import ACCEPT, DATA, RawPeer
from tests.fuzz.cases import TEMPORARY, Case, make_case
from tests.services import RedisServer, free_port, running, wait_until

SENDERS = 4
PATIENCE_SECONDS = 60.0
STATUS_ELEMENT = struct.pack("<HHL", 0, 0x0900, 2)


@dataclass
class Findings:
    """The results of the cases; ``problems`` should be empty."""

    cases: int = 0
    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    stored: int = 0
    peak_memory_mb: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Node:
    """A running `hilum node`; its storage is deep inside the folder ``outer``."""

    process: psutil.Popen
    port: int
    outer: Path
    storage: Path
    log: Path


@contextmanager
def fuzzed_node(folder: Path) -> Iterator[Node]:
    """Run a node whose storage is so deep inside a folder that files which escape from it can be found there."""
    port, storage, log = free_port(), folder / "a" / "b" / "c" / "storage", folder / "node.log"
    redis = RedisServer(find_redis(), free_port(), folder)
    redis.start()
    settings = {
        "HILUM_NODE__PORT": str(port),
        "HILUM_NODE__QUIET_SECONDS": "1",
        "HILUM_NODE__ASSOCIATION_IDLE_SECONDS": "1",
        "HILUM_STORAGE__FOLDER": str(storage),
        "HILUM_BROKER__URL": redis.url,
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "dicom_node", "node"]
    try:
        with (
            log.open("wb") as output,
            running(command, env=os.environ | settings, stderr=output, cwd=folder) as process,
        ):
            wait_until(lambda: b'"listening"' in log.read_bytes(), "hilum node")
            yield Node(psutil.Process(process.pid), port, folder, storage, log)
    finally:
        redis.stop()


def fuzz(folder: Path, count: int, seed: int) -> Findings:
    """Send cases to a node; return the results."""
    found, started = Findings(cases=count), time.monotonic()
    with fuzzed_node(folder) as node:
        before = tree(node)
        with ThreadPoolExecutor(SENDERS) as pool:
            for number, (case, answers, problem, seconds) in enumerate(
                pool.map(lambda number: attempt(node.port, make_case(seed, number)), range(count))
            ):
                found.answers.update(f"{case.kind}: {answer}" for answer in answers)
                found.slowest_seconds = max(found.slowest_seconds, seconds)
                if problem:
                    found.problems.append(f"case {number} of seed {seed} ({case.kind}): {problem}")
                if number % 200 == 0:
                    found.peak_memory_mb = max(found.peak_memory_mb, memory_mb(node))
        found.problems += problems_of(node, before)
        found.stored = len(stored(node))
    found.seconds = time.monotonic() - started
    return found


def attempt(port: int, case: Case) -> tuple[Case, list[str], str, float]:
    """Send a case; return it with the answers, what is wrong with them (or ""), and the seconds it took."""
    started, statuses, accepted = time.monotonic(), list[int](), False
    try:
        with RawPeer(port, PATIENCE_SECONDS) as peer:
            peer.send(case.request)
            if case.payload:
                kind, _ = peer.receive() if case.certain else (ACCEPT, b"")
                accepted = kind == ACCEPT
                peer.send(case.payload)
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
            while (received := peer.receive())[0]:
                if received[0] == DATA and (at := received[1].find(STATUS_ELEMENT)) >= 0:
                    statuses.append(struct.unpack_from("<H", received[1], at + len(STATUS_ELEMENT))[0])
    except TimeoutError:
        return case, [], f"nothing was heard for {PATIENCE_SECONDS:.0f} s", time.monotonic() - started
    seconds = time.monotonic() - started
    wrong = [status for status in statuses if status not in case.answers]
    problem = f"answered {', '.join(f'{status:#06x}' for status in wrong)}" if wrong else ""
    if case.certain and len(statuses) != 1:
        problem = f"{len(statuses)} answers{'' if accepted else ', the association was not accepted'}"
    return case, [f"{status:#06x}" for status in statuses] or ["ended"], problem, seconds


def tree(node: Node) -> set[Path]:
    """Return all paths outside the storage, and files at the places to which UIDs of the cases would lead."""
    outside = {path for path in node.outer.rglob("*") if not path.is_relative_to(node.storage)}
    return outside | set(Path(TEMPORARY).glob("hilum-escaped*"))


def memory_mb(node: Node) -> float:
    """Return the resident memory in MB of the largest of the node's processes."""
    processes = [node.process, *node.process.children(recursive=True)]
    return max(process.memory_info().rss for process in processes) / 1e6


def stored(node: Node) -> list[tuple[str, str, int]]:
    """Return path, hash and size of every instance in the record."""
    with sqlite3.connect(f"file:{node.storage}/record.sqlite3?mode=ro", uri=True) as record:
        return record.execute("SELECT path, sha256, size_bytes FROM instances").fetchall()


def problems_of(node: Node, before: set[Path]) -> Iterator[str]:
    """Yield what is wrong with the node after all cases; waits until every study has been dispatched."""
    if not node.process.is_running():
        yield "the node ended"
        return
    case = make_case(0, 9)
    if attempt(node.port, case)[1] != ["0x0000"]:
        yield "the node does not take a good image any more"
    if outside := tree(node) - before:
        yield f"outside the storage folder: {sorted(map(str, outside))}"
    yield from (f"the record names {path}, which is not what it says" for path in wrong_files(node))
    if not dispatched(node):
        yield "some studies were never dispatched"
    log = node.log.read_text()
    for word in ("association_broke", "crashed", "listener_broke", "Traceback", "dispatch_failed"):
        if word in log:
            yield f"the log says {word}: {log[max(0, log.index(word) - 600) : log.index(word) + 100]}"


def wrong_files(node: Node) -> Iterator[str]:
    """Yield the recorded paths of instances whose files are missing, changed or outside the storage."""
    for name, sha256, size in stored(node):
        path = node.storage / name
        inside = path.resolve().is_relative_to(node.storage.resolve())
        if not inside or not path.is_file() or hashlib.sha256(path.read_bytes()[-size:]).hexdigest() != sha256:
            yield name


def dispatched(node: Node) -> bool:
    """Wait until the node has dispatched every study; return whether it did in time.

    A sequence of 20,000 items takes a while to read.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS + len(stored(node)) / 10
    while time.monotonic() < deadline:
        with sqlite3.connect(f"file:{node.storage}/record.sqlite3?mode=ro", uri=True) as record:
            if not record.execute("SELECT count(*) FROM studies WHERE state = 'receiving'").fetchone()[0]:
                return True
        time.sleep(0.2)
    return False
