"""The receivers to compare, each with its best settings and empty storage, and the sender."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.comparison import HILUM
from tests.factories import ct_series
from tests.services import Orthanc, dcmtk, free_port, missing, running, wait_until

SLICES = 300
PDU_BYTES = 131072
"""The longest PDU that DCMTK can handle."""
PROMPT = os.environ | {"TCP_NODELAY": "1"}
"""Environment for DCMTK and Orthanc; without TCP_NODELAY they wait for TCP acknowledgements."""


@dataclass(frozen=True)
class Receiver:
    """A running receiver: its process, its port, and how many instances it has."""

    process: subprocess.Popen[bytes]
    port: int
    ae_title: str
    count: Callable[[], int]


@contextmanager
def hilum(folder: Path) -> Iterator[Receiver]:
    """Run `hilum node` with default settings except for ports and folders, and a quiet time that dispatches nothing."""
    port = free_port()
    settings = folder / "hilum.toml"
    settings.write_text(
        f'[node]\nport = {port}\nquiet_seconds = 3600\n[storage]\nfolder = "{folder / "data"}"\n'
        f'[broker]\nurl = "redis://127.0.0.1:{free_port()}/0"\n'
    )
    environment = os.environ | {"HILUM_CONFIG": str(settings)}

    def count() -> int:
        with sqlite3.connect(folder / "data" / "record.sqlite3") as record:
            return int(record.execute("SELECT count(*) FROM instances").fetchone()[0])

    with (
        (folder / "log").open("wb") as log,
        running([sys.executable, "-m", "dicom_node", "node"], env=environment, stderr=log) as process,
    ):
        wait_until(lambda: listens(port), "hilum node")
        yield Receiver(process, port, "HILUM", count)


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    """Run Orthanc with long PDUs, eight DICOM threads, and its files synced (its default)."""
    binary = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or missing("Orthanc")
    server = Orthanc(free_port(), free_port())
    config = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": server.http_port,
        "DicomPort": server.dicom_port,
        "DicomAet": server.ae_title,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "DicomThreadsCount": 8,
        "MaximumPduLength": PDU_BYTES,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config))
    with (
        (folder / "log").open("wb") as log,
        running([binary, path], stdout=log, stderr=log, env=PROMPT) as process,
    ):
        wait_until(lambda: server.answers() and listens(server.dicom_port), "Orthanc")
        yield Receiver(process, server.dicom_port, server.ae_title, lambda: server.ask("/statistics")["CountInstances"])


@contextmanager
def storescp(folder: Path) -> Iterator[Receiver]:
    """Run DCMTK's storescp with a process for each association; it syncs nothing and records nothing."""
    port = free_port()
    command = [dcmtk("storescp"), "--fork", "+B", "-pdu", str(PDU_BYTES), "-od", str(folder), str(port)]
    with running(command, env=PROMPT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: listens(port), "storescp")
        yield Receiver(process, port, "ANY-SCP", lambda: len(list(folder.iterdir())))


RECEIVERS: dict[str, Callable[[Path], AbstractContextManager[Receiver]]] = {
    HILUM: hilum,
    "Orthanc": orthanc,
    "storescp": storescp,
}


def listens(port: int) -> bool:
    """Whether a server accepts connections on a port of the loopback interface."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def make_slices(folder: Path) -> list[Path]:
    """Write 300 slices of 512 KB: noise, uncompressed."""
    noise = np.random.default_rng(0).integers(-1024, 3071, (SLICES, 512, 512), np.int16)
    return ct_series(folder, noise)


def send(paths: Sequence[Path], receiver: Receiver, associations: int) -> None:
    """Send files with DCMTK's storescu over several associations at once; every file must be stored."""
    command = [dcmtk("storescu"), "-aec", receiver.ae_title, "-pdu", str(PDU_BYTES)]
    command += ["--max-send-pdu", str(PDU_BYTES), "127.0.0.1", str(receiver.port)]
    senders = [subprocess.Popen([*command, *paths[n::associations]], env=PROMPT) for n in range(associations)]
    failed = [sender for sender in senders if sender.wait()]
    if failed:
        raise RuntimeError("storescu could not send everything; its message stands above")
    if receiver.count() != len(paths):
        raise RuntimeError(f"{len(paths)} instances were sent, {receiver.count()} stand in the receiver")
