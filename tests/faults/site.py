"""Hilum as in a hospital: node, workers and delivery as services, whose processes are restarted when they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis

from dicom_node.embedded import find_redis
from tests.conftest import REPOSITORY
from tests.faults.clock import Clock
from tests.services import PostgresServer, free_port, wait_until

RESTART_SECONDS = 0.5
"""The pause of a service manager before it restarts a service."""

READY = {"node": "listening", "deliver": "delivering", "worker": "worker_ready"}

QUICK = {
    "HILUM_NODE__QUIET_SECONDS": "1.5",
    "HILUM_NODE__ASSOCIATION_IDLE_SECONDS": "8",
    "HILUM_NODE__NETWORK_TIMEOUT_SECONDS": "10",
    "HILUM_SELECTION__PREFERRED_THICKNESS_MM": "10",
    "HILUM_SELECTION__MAXIMUM_THICKNESS_MM": "30",
    "HILUM_JOBS__LEASE_SECONDS": "4",
    "HILUM_JOBS__SWEEP_SECONDS": "4",
    "HILUM_JOBS__RETRY_SECONDS": "0.5",
    "HILUM_DELIVERY__FIRST_RETRY_SECONDS": "0.3",
    "HILUM_DELIVERY__LONGEST_RETRY_SECONDS": "2",
    "HILUM_DELIVERY__NETWORK_TIMEOUT_SECONDS": "3",
    "HILUM_STORAGE__WARN_FREE_GIB": "0",
    "HILUM_STORAGE__REFUSE_FREE_GIB": "0",  # the tests' disks are small
    "HILUM_WORKER__THREADS": "1",
    "HILUM_WORKER__METHOD": "thresholds",  # the network was never trained on chests as tiny as these
    "OMP_NUM_THREADS": "1",
}
"""Settings of minutes shortened to seconds, so that much can break in little time; and one thread per process."""


@dataclass
class Service:
    """A process that is restarted when it ends, as long as it is ``wanted``."""

    name: str
    command: list[str]
    ready: str
    """The event in its log that says that it is ready."""
    log: Path
    environment: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    """Options of ``subprocess.Popen``."""
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    ended_at: float | None = None
    starts: int = 0
    _began_at: int = 0
    """Size of the log at the last start."""

    def start(self) -> None:
        self._began_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            options = {"cwd": self.log.parent} | self.options | {"stdout": output, "stderr": output}
            environment = os.environ | self.environment
            self.process = subprocess.Popen(self.command, env=environment, start_new_session=True, **options)
        self.starts += 1
        self.ended_at = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def kill_with_children(self) -> None:
        """Kill the process and its descendants."""
        children = psutil.Process(self.pid).children(recursive=True)
        Service.kill(self)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children)

    def events(self, action: str = "", begin: int = 0) -> list[dict[str, Any]]:
        """Return the events in the log after ``begin`` bytes, or those of one action, without an unfinished line."""
        if not self.log.exists():
            return []
        written, _, _ = self.log.read_bytes()[begin:].decode(errors="replace").rpartition("\n")
        lines = (line for line in written.splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if action in ("", event.get("action"))]

    def is_ready(self) -> bool:
        """Whether the process runs and has logged since its start that it is ready."""
        return self.runs and bool(self.events(self.ready, self._began_at))


@dataclass
class RedisService(Service):
    """Redis, which logs no events: it is ready when it answers."""

    port: int = 0

    def is_ready(self) -> bool:
        try:
            return self.runs and bool(redis.Redis(port=self.port, socket_timeout=1).ping())
        except redis.RedisError:
            return False


@dataclass
class PostgresService(Service):
    """PostgreSQL, which is ready when it answers."""

    server: PostgresServer | None = None

    def is_ready(self) -> bool:
        assert self.server is not None
        return self.runs and self.server.answers()

    def kill(self) -> None:
        """Kill the server and its processes at once, as a power cut does; else they would end in an orderly way."""
        self.kill_with_children()


@dataclass
class Site:
    """A whole Hilum on this machine; each process is a service."""

    folder: Path
    database_url: str
    port: int
    services: dict[str, Service] = field(default_factory=dict)
    _closing: threading.Event = field(default_factory=threading.Event)

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    def tend(self) -> None:
        """Restart services that ended, until the site closes."""
        while not self._closing.wait(0.05):
            for service in self.services.values():
                if not service.wanted or service.runs:
                    continue
                if service.ended_at is None:
                    service.ended_at = time.monotonic()
                if time.monotonic() - service.ended_at >= RESTART_SECONDS:
                    service.start()

    def kill(self, name: str, *, wipe: bool = False) -> None:
        """Kill a service with SIGKILL; it will be restarted. ``wipe`` removes the data that Redis keeps on the disk."""
        service = self.services[name]
        service.wanted = False
        if service.runs:
            service.kill()
        if wipe:
            shutil.rmtree(self.folder / "redis")
            (self.folder / "redis").mkdir()
        service.ended_at = None
        service.wanted = True

    def kill_until_ready(self, name: str, *, wipe: bool = False) -> float:
        """Kill a service; return the seconds until it is ready again."""
        starts, killed_at = self.services[name].starts, time.monotonic()
        self.kill(name, wipe=wipe)
        service = self.services[name]
        wait_until(lambda: service.starts > starts and service.is_ready(), f"{name} after it was killed", 60)
        return time.monotonic() - killed_at

    def stop(self, name: str) -> None:
        """Stop a service with SIGTERM; it stays down."""
        service = self.services[name]
        service.wanted = False
        if service.runs:
            assert service.process is not None
            service.process.terminate()
            service.process.wait(30)

    def command(self, *words: str) -> str:
        """Run a command of Hilum with this site's settings; return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "dicom_node", *words],
            env=os.environ | self.services["node"].environment,
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def ready(self) -> bool:
        return all(service.is_ready() for service in self.services.values() if service.wanted)

    def close(self) -> None:
        """Kill all services that still run."""
        self._closing.set()
        for service in self.services.values():
            service.wanted = False
            if service.runs:
                service.kill_with_children()


@contextmanager
def site(
    folder: Path,
    database_url: str,
    destinations: Sequence[dict[str, Any]],
    names: Sequence[str] = ("redis", "node", "deliver", "worker-1"),
    *,
    postgres: PostgresServer | None = None,
    clock: Clock | None = None,
    **environment: str,
) -> Iterator[Site]:
    """Run services until the ``with`` block ends; ``environment`` adds settings.

    If ``postgres`` is given, it is run as a service too. If ``clock`` is given, all services use it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "redis").mkdir()
    redis_port = free_port()
    there = Site(folder, database_url, free_port())
    time = clock.environment if clock else {}
    settings = {
        **QUICK,
        **time,
        "PYTHONPATH": str(REPOSITORY),  # this checkout's Hilum, not an installed one
        "HILUM_NODE__PORT": str(there.port),
        "HILUM_STORAGE__FOLDER": str(there.storage),
        "HILUM_DATABASE__URL": database_url,
        "HILUM_BROKER__URL": f"redis://127.0.0.1:{redis_port}/0",
        "HILUM_DESTINATIONS": json.dumps(list(destinations)),
        **environment,
    }
    kept = {"dir": str(folder / "redis"), "appendonly": "yes", "save": ""}
    options = {"port": str(redis_port), "bind": "127.0.0.1", **kept}
    command = [find_redis(), *(word for key, value in options.items() for word in (f"--{key}", value))]
    if postgres:
        words = [str(word) for word in postgres.command]
        log = folder / "postgresql.log"
        there.services["postgresql"] = PostgresService(
            "postgresql", words, "", log, time, postgres.options, server=postgres
        )
    for name in names:
        kind = name.partition("-")[0]
        log = folder / f"{name}.log"
        if kind == "redis":
            there.services[name] = RedisService(name, command, "", log, time, port=redis_port)
        else:
            there.services[name] = Service(name, [sys.executable, "-m", "dicom_node", kind], READY[kind], log, settings)
    threading.Thread(target=there.tend, name="service manager", daemon=True).start()
    try:
        wait_until(there.ready, "all services", 60)
        yield there
    finally:
        there.close()
