"""The machine of a benchmark, and the time and memory that processes take."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]


def describe_machine() -> dict[str, Any]:
    """Return the properties of the machine that determine speed; no name of a host or user."""
    cpu = next(line.split(":")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": cpu.strip(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kb / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file_system": file_system(work_folder()),
        "load_before": round(os.getloadavg()[0], 2),
    }


@cache
def commit() -> str:
    """Return the measured commit, with "-dirty" if the checkout differed from it when this was first called."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def work_folder() -> Path:
    """Return the folder for what benchmarks write: TMPDIR, or /var/tmp. On a tmpfs syncing would cost nothing."""
    return Path(os.environ.get("TMPDIR", "/var/tmp"))  # noqa: S108 - temporary folders are made in it


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder for one measurement."""
    return tempfile.TemporaryDirectory(prefix="hilum-bench-", dir=work_folder())


def file_system(folder: Path) -> str:
    """Return the kind of file system a folder lies on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return max(((p, kind) for p, kind in mounts if folder.resolve().is_relative_to(p)), key=lambda m: len(m[0]))[1]


class Run(NamedTuple):
    """A command's output, times and peak resident memory."""

    output: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


def run_alone(command: list[str]) -> Run:
    """Run a command from the small process ``alone.py``, which measures it."""
    alone = [sys.executable, str(Path(__file__).with_name("alone.py")), *command]
    printed = subprocess.run(alone, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY).stdout
    output, _, figures = printed.rstrip("\n").rpartition("\n")
    return Run(output, *json.loads(figures))


def family(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def pss_mb(pid: int) -> float:
    """Return the proportional set size (PSS) of a process and its descendants, in MB."""
    sizes = [Path(f"/proc/{member}/smaps_rollup").read_text() for member in family(pid)]
    return sum(int(line.split()[1]) for text in sizes for line in text.splitlines() if line.startswith("Pss:")) / 1000


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its descendants have used."""
    times = [psutil.Process(member).cpu_times() for member in family(pid)]
    return sum(time.user + time.system for time in times)
