"""Memory and start: processes that wait beside the PACS all day must be small and start quickly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from dicom_node.embedded import find_redis
from tests.benchmarks.comparison import HILUM, Comparison, alternate
from tests.benchmarks.machine import cpu_seconds, pss_mb, scratch
from tests.benchmarks.receivers import RECEIVERS, SLICES, make_slices, send
from tests.services import RedisServer, free_port, running, wait_until

IDLE_SECONDS = 10

TITLE = "Memory and start"
TEXT = f"""\
Memory is the proportional set size (PSS) over all processes of a receiver: idle, and after {SLICES} instances of 512
KB over eight associations. A receiver is ready when its port accepts connections, and a worker when it listens to
its queue. The processor time of an idle process is measured over {IDLE_SECONDS} s."""

COMPARED = {name: RECEIVERS[name] for name in (HILUM, "Orthanc")}


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure receivers idle and after work, and how long everything takes to start."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with scratch() as folder:
        paths = make_slices(Path(folder))
        for turn in range(rounds):
            names = list(COMPARED)
            for name in names[turn % 2 :] + names[: turn % 2]:
                for what, value in receiver_figures(name, paths).items():
                    found[what][name].append(value)
    yield Comparison("receiver, idle", "MB", found["idle"])
    yield Comparison("receiver, processor's time when idle", "%", found["idle_percent"])
    yield Comparison(f"receiver, after {SLICES} instances", "MB", found["after"])
    yield Comparison("receiver, seconds until ready", "s", found["ready"])
    yield Comparison("`hilum --help`", "s", alternate(rounds, {HILUM: help_seconds}))
    worker = [worker_figures() for _ in range(rounds)]
    yield Comparison("worker, idle", "MB", {HILUM: [figures["idle"] for figures in worker]})
    yield Comparison(
        "worker, processor's time when idle", "%", {HILUM: [figures["idle_percent"] for figures in worker]}
    )
    yield Comparison("worker, seconds until ready", "s", {HILUM: [figures["ready"] for figures in worker]})
    yield Comparison("installed for a CPU worker", "MB", {HILUM: [installed_mb("hilum[worker]")]})


def receiver_figures(name: str, paths: list[Path]) -> dict[str, float]:
    """Start a receiver, and measure it before and after it has worked."""
    with scratch() as folder:
        started = time.perf_counter()
        with COMPARED[name](Path(folder)) as receiver:
            ready = time.perf_counter() - started
            figures = {"ready": ready, **idle_figures(receiver.process.pid)}
            send(paths, receiver, 8)
            return figures | {"after": pss_mb(receiver.process.pid)}


def idle_figures(pid: int) -> dict[str, float]:
    """Return the PSS in MB and the CPU use in percent of one core of an idle process and its descendants."""
    time.sleep(1)
    begun = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return {"idle": pss_mb(pid), "idle_percent": 100 * (cpu_seconds(pid) - begun) / IDLE_SECONDS}


def help_seconds() -> float:
    """Return how long `hilum --help` takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dicom_node", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def worker_figures() -> dict[str, float]:
    """Start a worker with its own Redis; return the seconds until it is ready, and its memory and CPU use when idle."""
    with scratch() as name:
        folder = Path(name)
        redis_server = RedisServer(find_redis(), free_port(), folder)
        redis_server.start()
        environment = os.environ | {"HILUM_BROKER__URL": redis_server.url, "HILUM_STORAGE__FOLDER": str(folder)}
        try:
            started = time.perf_counter()
            with (
                (folder / "log").open("wb") as log,
                running([sys.executable, "-m", "dicom_node", "worker"], env=environment, stderr=log) as process,
            ):
                wait_until(lambda: waits_for_jobs(redis_server), "hilum worker")
                ready = time.perf_counter() - started
                return {"ready": ready, **idle_figures(process.pid)}
        finally:
            redis_server.stop()


def installed_mb(wanted: str) -> float:
    """Return the installed size in MB of a package and all its requirements, without Hilum's own few files."""
    todo, sizes = [Requirement(wanted)], {"hilum": 0}
    done: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        package = distribution(requirement.name)
        name = package.metadata["Name"].lower()
        if name not in sizes:
            paths = [Path(str(file.locate())) for file in package.files or ()]
            sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for extra in {"", *requirement.extras} - {extra for of, extra in done if of == name}:
            done.add((name, extra))
            for text in package.requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    todo.append(needed)
    return sum(sizes.values()) / 1e6


def waits_for_jobs(redis_server: RedisServer) -> bool:
    """Whether a worker waits at Redis for the next job."""
    return any(client["cmd"] == "brpop" for client in redis_server.client.client_list())
