"""All of Hilum on one machine: ``hilum up`` starts the other commands as processes and keeps them running."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.embedded import find_redis
from dicom_node.errors import Defect
from dicom_node.files import keep_private
from dicom_node.log import configure_logging, get_logger
from dicom_node.record.database import open_database
from dicom_node.settings import load_settings
from dicom_node.stopping import die_with_parent, stop_on_signals

TURN_SECONDS = 1.0
CRASHING_SECONDS = 30.0
"""A child that ran for less than this is started again only after a pause."""
STOPPING_SECONDS = 20.0

log = get_logger()


@dataclass
class Child:
    """A process that is started again when it ends."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)
    starts: int = 1
    crashes: int = 0
    """How often in a row it ended soon after its start."""
    restart_at: float | None = None
    """When to start it again, in seconds on a monotonic clock; None while it runs."""


def run_up(_: argparse.Namespace) -> int:
    """Run everything until told to stop."""
    settings = load_settings()
    configure_logging("up")
    keep_private()
    stop = stop_on_signals()
    # Migrate once, before three processes try to.
    open_database(settings.database_url, settings.storage.folder).dispose()
    children: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="hilum-") as runtime:
        try:
            if not settings.broker.url:
                socket = Path(runtime, "redis.sock")
                children.append(start("redis", redis_command(socket)))
                os.environ["HILUM_BROKER__URL"] = f"redis+socket://{socket}"
            services = ("node", "deliver", "worker")
            children.extend(start(name, [sys.executable, "-m", "dicom_node", name]) for name in services)
            log.info("up", port=settings.node.port, called_ae_title=settings.node.ae_title)
            while not stop.wait(TURN_SECONDS):
                for child in children:
                    revive(child, settings.jobs.sweep_seconds)
        finally:
            stop_all(children)
    log.info("stopped")
    return 0


def redis_command(socket: Path) -> list[str]:
    """Return the command that runs a Redis for this machine alone: a socket in a private folder, nothing kept on disk.

    The jobs are in the record: if this Redis loses a bell, the node rings again.
    """
    options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "save": "", "dir": str(socket.parent)}
    words = (word for key, value in options.items() for word in (f"--{key}", value))
    return [find_redis(), *words, "--loglevel", "warning"]


def start(name: str, command: list[str]) -> Child:
    """Start a child in its own session, so that Ctrl-C reaches only this process; it ends if this process is killed."""
    # The command runs this interpreter, or the Redis found above.
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=die_with_parent)  # noqa: S603
    log.info("started", outcome=name, pid=process.pid)
    return Child(name, command, process)


def restart_pause(crashes: int, sweep_seconds: float) -> float:
    """Return the pause, in seconds, before a child is started again.

    It doubles with every crash, up to half the sweep interval, so that the child is back before the next sweep.
    """
    return min(2.0 ** min(crashes, 64), sweep_seconds / 2)


def revive(child: Child, sweep_seconds: float) -> None:
    """Start a child again, a while after it ended.

    Raises
    ------
    Defect
        The child failed soon after its very first start, so it cannot run.
    """
    code, time_now = child.process.poll(), time.monotonic()
    if code is None:
        return
    if child.restart_at is None:
        lived = time_now - child.started_at
        log.error("ended", outcome=child.name, exit_code=code, seconds=round(lived, 1))
        if child.starts == 1 and lived < CRASHING_SECONDS and code > 0:
            raise Defect("cannot-start", f"`hilum {child.name}` could not start; its message stands above")
        child.crashes = child.crashes + 1 if lived < CRASHING_SECONDS else 0
        child.restart_at = time_now + (restart_pause(child.crashes, sweep_seconds) if child.crashes else 0.0)
    if time_now >= child.restart_at:
        again = start(child.name, child.command)
        child.process, child.started_at, child.restart_at = again.process, again.started_at, None
        child.starts += 1


def stop_all(children: list[Child]) -> None:
    """Stop the children, the last started first (Redis last); one that does not end in time is killed."""
    deadline = time.monotonic() + STOPPING_SECONDS
    for child in reversed(children):
        if child.name != "redis":
            child.process.terminate()
    for child in reversed(children):
        if child.name == "redis":
            child.process.terminate()
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # If it was running a job, the job's lease expires and the job is queued again.
            log.warning("killed", outcome=child.name)
            child.process.kill()
            child.process.wait()
