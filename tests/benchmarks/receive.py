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
floor.

What each step gave, in milliseconds of processor time an instance over all of Hilum's processes (senders not
counted), or in system calls an instance where others on the machine hide the time:

| step | before | after |
| --- | ---: | ---: |
| one thread an association, straight to the file: 8 associations | 4.2 | 2.4 |
| one sync of the folder and one commit for all that wait: 8 associations | 2.4 | 2.0 |
| the hot statements handed to the database's driver, in a loop | 0.135 | 0.045 |
| C-STORE past pynetdicom's messages, and reading ahead: one association | 2.08 | 1.73 |
| the same: 8 associations | 2.50 | 1.98 |
| whose an instance is, from its first 16 KB, in a loop | 0.135 | 0.046 |
| the last three, calls of futex (waits for the interpreter): 8 associations | 292 | 51 |
| calls of lseek, poll and recvfrom together | 81 | 7 |

What gained nothing and was left out: giving the file its name before it is synced, so that the folder's sync finds the
journal written (2.98 ms for both syncs, 2.96 the other way round); room for the file allocated beforehand.

What is left at one association are three syncs one after another (file and folder alone: 1.4 ms in the best tenth,
2.2 in the median) and about 0.7 ms for the sender's own turn, as storescp shows; Orthanc waits for one sync. On a
disk that others keep busy each sync waits for their writes, too: with a load of 20 on the two cores, one association
brought 17 to 35 instances a second to Hilum and 95 to 148 to Orthanc, eight 43 to 79 and 63 to 91. Of the processor's
time SHA-256 takes 0.27 ms, the copy into new pages of the page cache 0.2 to 0.5. Of the interpreter's 0.5 ms or so
the record takes two fifths, the file a quarter, reading the UIDs a tenth. An association costs 12 ms of its own when
it proposes 128 presentation contexts, as storescu does: a sixth of all at eight associations of 38 instances."""


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
