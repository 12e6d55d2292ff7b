"""Instances a second, safe in storage, for one sender and for eight."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.comparison import Comparison, alternate
from tests.benchmarks.machine import scratch
from tests.benchmarks.receivers import RECEIVERS, SLICES, make_slices, send

ASSOCIATIONS = (1, 8)

TITLE = "Receiving"
TEXT = f"""\
{SLICES} CT slices of 512 KB, uncompressed, sent by DCMTK's storescu (TCP_NODELAY, PDUs of 128 KB) into empty storage.
Hilum says Success when file, folder and row are synced to the disk. Orthanc (TCP_NODELAY, PDUs of 128 KB, eight
threads) syncs the file. storescp (`--fork +B`, TCP_NODELAY, PDUs of 128 KB) syncs nothing and records nothing: the
floor."""


def measure(rounds: int) -> Iterator[Comparison]:
    """Compare the receivers, with fresh storage in each round.

    Nothing is removed before the end: ext4 avoids the inodes of files that were just deleted, which costs whoever
    comes next.
    """
    with scratch() as name:
        folder = Path(name)
        paths = make_slices(folder / "slices")
        for associations in ASSOCIATIONS:
            contenders = {name: partial(rate, name, paths, associations, folder) for name in RECEIVERS}
            title = "one association" if associations == 1 else f"{associations} associations"
            yield Comparison(title, "instances/s", alternate(rounds, contenders), higher_is_better=True)


def rate(name: str, paths: Sequence[Path], associations: int, folder: Path) -> float:
    """Return how many instances a second a receiver takes, sender's start included."""
    with RECEIVERS[name](Path(tempfile.mkdtemp(dir=folder))) as receiver:
        started = time.perf_counter()
        send(paths, receiver, associations)
        return len(paths) / (time.perf_counter() - started)
