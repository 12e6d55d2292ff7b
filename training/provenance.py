"""What made a result."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def source_version() -> str:
    """Return the commit of the source tree, or the version of the installed package."""
    tree = Path(__file__).resolve().parent.parent
    if not (tree / ".git").exists():
        return version("hilum")
    command = ["git", "-C", str(tree), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603  # fixed arguments


def describe_device(device: torch.device) -> str:
    """Return what computed, such as "AMD EPYC, 2 threads" or "NVIDIA H100"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def is_processor(description: str) -> bool:
    """Whether ``describe_device`` said this of a CPU."""
    return description.endswith(" threads")


def processor_name() -> str:
    """Return the processor's model as the kernel names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
