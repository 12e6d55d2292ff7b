"""Where a result comes from: source, device, and the card and licence of its weights."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from training.datasets import OWN
from training.experiment import Experiment
from worker.networks.card import Card

PUBLIC_LICENCE = "Apache-2.0 AND CC-BY-NC-SA-4.0"
"""Most public infection labels are for non-commercial use, and so are weights trained on them."""

OWN_LICENCE = "as the owners of the scans and labels decide"
"""Licence of weights that learned from a site's own scans alone."""


def source_version() -> str:
    """Return the commit of the source tree, or the version of the installed package.

    The commit of a tree with changed files ends in "-dirty". If git is missing, or does not trust the tree's owner, the
    package's version is returned.
    """
    tree = Path(__file__).resolve().parent.parent
    if not (tree / ".git").exists():
        return version("hilum")
    # Without tags, which would take the place of the commit's hash.
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603  # fixed arguments
    except (OSError, subprocess.CalledProcessError):
        return version("hilum")


def machine(device: torch.device) -> dict[str, str]:
    """Return the version of torch and the name of the device, as results record them."""
    return {"torch": torch.__version__, "device": describe_device(device)}


def machines(splits: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, str]:
    """Return the versions of torch and the names of the devices that trained splits; the present ones without splits.

    Splits that earlier versions trained do not record theirs, and count as trained by the present ones.
    """
    return {
        key: " and ".join(dict.fromkeys(split.get(key, here) for split in splits)) or here
        for key, here in machine(device).items()
    }


def describe_device(device: torch.device) -> str:
    """Return the name of a device, such as "AMD EPYC, 2 threads" or "NVIDIA H100"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def is_processor(description: str) -> bool:
    """Whether a description by ``describe_device``, or several joined by "and", is of CPUs alone."""
    return all(part.endswith(" threads") for part in description.split(" and "))


def processor_name() -> str:
    """Return the processor's model as the kernel names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def licence_of(data: Sequence[str], before: str | None) -> str:
    """Return the licence of weights that learned from data sets; ``before`` is that of the pretrained ones, if any."""
    if not set(data) <= set(OWN):
        return PUBLIC_LICENCE
    return OWN_LICENCE if before is None else before


def card_of(experiment: Experiment, classes: tuple[str, ...], commit: str, before: Card | None, *, short: bool) -> Card:
    """Return the card of trained weights, still without figures; ``before`` is that of the pretrained ones, if any."""
    window = experiment.preprocess.window_hu
    return Card(
        network=experiment.network,
        arguments=dict(experiment.arguments),
        classes=classes,
        window_hu=None if window == "header" else window,
        spacing_mm=(None, None, None),
        image_size=experiment.preprocess.size,
        stack_slices=experiment.stacking.slices,
        threshold=experiment.threshold,
        training_data=", ".join(experiment.data) + (f"; before that {before.training_data}" if before else ""),
        commit=commit,
        licence=licence_of(experiment.data, before.licence if before else None),
        metrics={},
        short=short,
    )


def with_figures(card: Card, measures: Mapping[str, float]) -> Card:
    """Return a card with the measures that are numbers."""
    return replace(card, metrics={name: value for name, value in measures.items() if not math.isnan(value)})
