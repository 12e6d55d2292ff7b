"""Load: many senders at once, many instances, and many connections that end without sending an instance."""

from __future__ import annotations

import socket
import struct
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian

from tests.benchmarks.comparison import Comparison, alternate
from tests.benchmarks.machine import pss_mb, scratch
from tests.benchmarks.receivers import Receiver, hilum
from tests.dicom_node.raw import RawPeer, associate_request, store_command
from tests.services import wait_until

CONNECTIONS = 10_000
INSTANCES = 20_000
WARMING_UP = 1000
"""Instances, and connections of each kind, before the first look at memory.

By then all modules are imported, and all caches and heaps of threads are there.
"""
SENDERS = 8
FEW, MANY = 4, 40
SLICES, SLICE_BYTES = 2400, 512 * 1024
"""60 slices in each of MANY associations: enough that the time to begin a study hardly counts."""
PIXEL_BYTES = 8192
RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER that makes closing a socket reset its connection."""

TITLE = "Load"
TEXT = f"""\
Memory is the proportional set size (PSS) over all processes of `hilum node`. Peers that only knock either close
their TCP connection without sending anything, or reset their association; half of them do the one, half the other.
Memory is measured at first (after {WARMING_UP} instances of 8 KB, and {2 * WARMING_UP} peers that only knocked),
after {2 * CONNECTIONS} more that only knocked, and after {INSTANCES} more instances from {SENDERS} senders.
Throughput is measured with {SLICES} instances of 512 KB from {FEW} and from {MANY} senders at once, each of which
proposes one presentation context."""


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure throughput with few and many senders, and memory before and after everything else."""
    with scratch() as name:
        folder = Path(name)
        few_and_many = {f"{count} associations": partial(rate, folder, count) for count in (FEW, MANY)}
        throughput = alternate(rounds, few_and_many)
        yield Comparison("receiving", "instances/s", throughput, higher_is_better=True)
        few, many = throughput.values()
        shares = [100 * m / f for f, m in zip(few, many, strict=True)]
        yield Comparison(f"{MANY} associations, of the throughput with {FEW}", "%", {"Hilum": shares})
        memory: dict[str, list[float]] = defaultdict(list)
        growth: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            found = memory_mb(Path(tempfile.mkdtemp(dir=folder)))
            start = next(iter(found.values()))
            for moment, value in found.items():
                memory[moment].append(value)
                growth[moment].append(100 * (value / start - 1))
        yield Comparison("memory of the node", "MB", memory)
        del growth[next(iter(growth))]
        yield Comparison("growth of memory", "%", growth)


def rate(folder: Path, associations: int) -> float:
    """Return how many instances of 512 KB a new node receives per second over this many open associations."""
    with hilum(Path(tempfile.mkdtemp(dir=folder))) as receiver:
        send_instances(receiver, associations, associations)  # warms up; not timed
        started = time.perf_counter()
        send_instances(receiver, SLICES, associations, SLICE_BYTES)
        return SLICES / (time.perf_counter() - started)


def memory_mb(folder: Path) -> dict[str, float]:
    """Return a node's memory at the moments that are compared."""
    found = {}
    with hilum(folder) as receiver:
        send_instances(receiver, WARMING_UP)
        knock(receiver, WARMING_UP)
        found["at first"] = pss_mb(receiver.process.pid)
        knock(receiver, CONNECTIONS)
        found[f"after {2 * CONNECTIONS} who only knocked"] = pss_mb(receiver.process.pid)
        send_instances(receiver, INSTANCES)
        found[f"after {INSTANCES} instances"] = pss_mb(receiver.process.pid)
    return found


def knock(receiver: Receiver, count: int) -> None:
    """Connect and hang up without sending anything ``count`` times; then associate and reset ``count`` times."""
    for knock_once in (connect, abort):
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(partial(knock_once, receiver.port), range(count)))
    wait_until(lambda: threads(receiver) < SENDERS, "the last connection's end", 60)


def threads(receiver: Receiver) -> int:
    """Return how many threads the node's main process has."""
    return len(list(Path(f"/proc/{receiver.process.pid}/task").iterdir()))


def connect(port: int, _number: int) -> None:
    """Connect and hang up, as load balancers do; wait until the node has closed the connection too."""
    with RawPeer(port) as peer:
        peer.socket.shutdown(socket.SHUT_WR)
        peer.receive()


def abort(port: int, _number: int) -> None:
    """Request an association, and reset the connection once the node has answered."""
    with RawPeer(port) as peer:
        peer.send(associate_request())
        peer.receive()
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def send_instances(receiver: Receiver, count: int, senders: int = SENDERS, pixel_bytes: int = PIXEL_BYTES) -> None:
    """Send instances over several associations at once; every one must be stored."""
    before = receiver.count()
    with ThreadPoolExecutor(senders) as pool:
        list(pool.map(partial(send_study, receiver.port, count // senders, pixel_bytes), range(senders)))
    if receiver.count() - before != count:
        raise RuntimeError(f"{count} instances were sent, {receiver.count() - before} stand in the record")


def send_study(port: int, count: int, pixel_bytes: int, number: int) -> None:
    """Send one study over one association."""
    study = f"1.2.826.0.3.{count}.{number}"
    pixels = struct.pack("<HHL", 0x7FE0, 0x0010, pixel_bytes) + bytes(pixel_bytes)
    with RawPeer(port).associate((CTImageStorage, ImplicitVRLittleEndian)) as peer:
        for instance in range(count):
            sop = f"{study}.{instance}"
            uids = ((0x0008, 0x0016, CTImageStorage), (0x0008, 0x0018, sop), (0x0020, 0x000D, study))
            header = b"".join(element(*uid) for uid in (*uids, (0x0020, 0x000E, f"{study}.0")))
            if peer.store(store_command(sop=sop), header + pixels) != 0:
                raise RuntimeError("an instance was not stored")


def element(group: int, number: int, uid: str) -> bytes:
    """Return a UID as an element in Implicit VR Little Endian."""
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HHL", group, number, len(value)) + value
