"""Real services for the tests, which run on free ports and in temporary folders."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import psutil
import psycopg
import pytest
import redis

from dicom_node.port import outgoing_ports

STARTING_SECONDS = 30.0
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def missing(what: str) -> NoReturn:
    """Skip a test for lack of a service; with HILUM_TEST_REQUIRE_PEERS=1 the test fails instead."""
    if os.environ.get("HILUM_TEST_REQUIRE_PEERS") == "1":
        pytest.fail(f"{what} is not here, and HILUM_TEST_REQUIRE_PEERS=1", pytrace=False)
    pytest.skip(f"{what} is not here")


def free_port() -> int:
    """Return a free port of the loopback interface, outside the range of the ports of outgoing connections.

    The system gives outgoing connections local ports from that range. There one could take the port of a service that
    is just being restarted; even a client that tries to reach this service could, and would then reach itself.
    """
    while True:
        port = random.randrange(10_000, outgoing_ports()[0])  # noqa: S311 - protects nothing
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], Any], what: str, seconds: float = STARTING_SECONDS) -> Any:
    """Return the condition's value once it is true; the test fails if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)
    return value


@contextmanager
def running(
    command: Sequence[str | Path], stop: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the ``with`` block ends."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class RedisServer:
    """A Redis that can be killed and started again; it keeps nothing on disk."""

    binary: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def start(self) -> None:
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "dir": str(self.folder)}
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        self.process = subprocess.Popen([self.binary, *words], stdout=subprocess.DEVNULL)
        wait_until(self.answers, "Redis")

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class PostgresServer:
    """A PostgreSQL that trusts every connection from the loopback interface."""

    port: int
    command: list[str | Path]
    options: dict[str, Any]
    """Options of its process, among them a user: PostgreSQL refuses to run as root."""

    def url(self, database: str) -> str:
        return f"postgresql://hilum@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """Make a database that exists until the ``with`` block ends; yield its URL.

        It is dropped at once: to remove its thousand files with the cluster would take a second.
        """
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres_cluster(*, durable: bool = True) -> Iterator[PostgresServer]:
    """Make an empty cluster for Debian's PostgreSQL, without starting it; remove it when the ``with`` block ends."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        missing("PostgreSQL")
    user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    # Not in pytest's folders, which are closed to other users and have names too long for a socket's path.
    folder, port = Path(tempfile.mkdtemp(prefix="hilum-pg-")), free_port()
    try:
        if user:
            shutil.chown(folder, "postgres")
        quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        initdb = [binaries[-1], "-D", folder / "data", "-U", "hilum", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, **quiet, **user)
        options = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}"]
        options += [f"fsync={'on' if durable else 'off'}", "max_connections=200"]
        words = [word for option in options for word in ("-c", option)]
        yield PostgresServer(port, [binaries[-1].with_name("postgres"), "-D", folder / "data", *words], quiet | user)
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL without fsync: its data need not survive a crash."""
    with (
        postgres_cluster(durable=False) as server,
        running(server.command, signal.SIGQUIT, **server.options),  # stops it at once; no data is kept
    ):
        wait_until(server.answers, "PostgreSQL")
        yield server


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc, which is a PACS, and its REST API."""

    http_port: int
    dicom_port: int
    ae_title: str = "ORTHANC"

    def download(self, path: str, body: object = None, method: str | None = None) -> bytes:
        """Return the answer to a GET, or to a POST (or another method) with a JSON body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http to the loopback
            content: bytes = answer.read()
        return content

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """Return the parsed JSON answer, None if it is empty; see `download`."""
        content = self.download(path, body, method)
        return json.loads(content) if content else None

    def answers(self) -> bool:
        try:
            return "Version" in self.ask("/system")
        except URLError:
            return False

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Return the resources of a level ("Study", "Series", "Instance") that match DICOM keywords."""
        body = {"Level": level, "Query": query, "Expand": True}
        found: list[dict[str, Any]] = self.ask("/tools/find", body)
        return found

    def add_modality(self, name: str, ae_title: str, port: int) -> None:
        """Register a DICOM peer, so that Orthanc can send objects to it."""
        self.ask(f"/modalities/{name}", {"AET": ae_title, "Host": "127.0.0.1", "Port": port}, "PUT")

    def send(self, name: str, resources: Sequence[str]) -> None:
        """C-STORE resources to a peer; returns when they are sent."""
        self.ask(f"/modalities/{name}/store", {"Resources": list(resources), "Synchronous": True})


@contextmanager
def orthanc_server(folder: Path) -> Iterator[Orthanc]:
    """Run Orthanc with an empty storage; it accepts all objects from all peers."""
    binary = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        missing("Orthanc")
    server = Orthanc(free_port(), free_port())
    config = folder / "orthanc.json"
    config.write_text(
        json.dumps(
            {
                "Name": "TESTPACS",
                "StorageDirectory": str(folder / "db"),
                "IndexDirectory": str(folder / "db"),
                "HttpPort": server.http_port,
                "DicomPort": server.dicom_port,
                "DicomAet": server.ae_title,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAlwaysAllowStore": True,
                "DicomCheckCalledAet": False,
                "UnknownSopClassAccepted": True,
                "DicomThreadsCount": 4,
                "Plugins": [str(DICOMWEB_PLUGIN)] if DICOMWEB_PLUGIN.is_file() else [],
            }
        )
    )
    with (folder / "orthanc.log").open("wb") as log, running([binary, config], stdout=log, stderr=log):
        wait_until(server.answers, "Orthanc")
        yield server


def dcmtk(tool: str) -> str:
    """Return the path of one of DCMTK's tools, not of pynetdicom's script of the same name."""
    return shutil.which(tool, path="/usr/bin:/usr/local/bin:/opt/homebrew/bin") or missing(f"DCMTK's {tool}")


@dataclass
class Up:
    """A running `hilum up`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    runtime: Path

    def events(self, action: str) -> list[dict[str, Any]]:
        written, _, _ = self.log.read_text().rpartition("\n")  # the last line may be half written
        lines = (line for line in written.splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["action"] == action]

    def pids(self) -> dict[str, int]:
        """Return the process id of the newest start of each child, by the child's name."""
        return {event["outcome"]: event["pid"] for event in self.events("started")}

    def listens(self) -> bool:
        return any(event["port"] == self.port for event in self.events("listening"))

    def has_worker(self) -> bool:
        return bool(self.events("worker_ready"))

    def ready(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"hilum up ended:\n{self.log.read_text()}")
        return self.listens() and self.has_worker()

    @property
    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def hilum_up(folder: Path, **environment: str) -> Iterator[Up]:
    """Run `hilum up` in a folder; if it still runs when the ``with`` block ends, it is killed with its descendants."""
    port, log = free_port(), folder / "up.log"
    # Sockets need short paths, and pytest's folders have long ones.
    with tempfile.TemporaryDirectory(prefix="hilum-up-") as runtime, log.open("wb") as output:
        settings = {
            "HILUM_NODE__PORT": str(port),
            "HILUM_STORAGE__FOLDER": str(folder / "data"),
            "TMPDIR": runtime,
            **environment,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node", "up"], cwd=folder, env=os.environ | settings, stderr=output
        )
        up = Up(process, port, log, Path(runtime))
        left: list[psutil.Process] = []
        try:
            yield up
        finally:
            if process.poll() is None:
                left = up.tree
                process.kill()
                process.wait()
            for child in left:
                if child.is_running():
                    child.kill()
