"""Instances per second that are stored safely, from one sender and from eight."""

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

Writing past the page cache (O_DIRECT) was tried and left out: it took a third less of the processor's time at eight
associations (1.10 ms an instance in place of 1.67; 393 instances a second in place of 354) and nothing at one, but the
worker would read its study from the disk, and 512 KB images fill a gigabit line at 230 a second.

Where the time of an instance goes at one association, by the clock within `hilum node`, on a quiet machine:

| part | ms |
| --- | ---: |
| the data set hashed and handed to the file system as it comes | 0.44 |
| the file synced and named | 0.70 |
| UIDs read, path checked | 0.16 |
| the folder synced | 0.16 |
| row written and committed, with the sync of SQLite's log | 0.36 |
| file opened, its meta information made | 0.11 |
| reading the socket, and waiting for the sender there | 0.32 |
| parsing PDUs, answering, and the sender's start shared by all | 0.65 |
| the whole | 2.9 |

The goal, 2.5 times Orthanc (1.7 ms an instance), cannot be reached at one association on this machine: with syncs
that took no time at all 2.0 ms would be left. At eight the two cores are full: 1.7 ms of the node's and about 1 ms of
the senders' processor time an instance make 740 instances a second if nobody ever waits. Of the node's share SHA-256
is 0.3 ms, and an association costs 12 ms of its own when it proposes 128 presentation contexts, as storescu does.
Eight threads that do nothing but write, sync and name files of 512 KB brought 820 to 970 a second here.

Orthanc waits for one sync an instance where Hilum waits for three. On a disk that others keep busy each sync waits for
their writes, too: with a load of 20 on the two cores, one association brought 17 to 35 instances a second to Hilum and
95 to 148 to Orthanc, eight 43 to 79 and 63 to 91."""


def measure(rounds: int) -> Iterator[Comparison]:
    """Compare the receivers, with fresh storage in each round.

    No storage is removed before the end: ext4 avoids the inodes of files that were just deleted, which would slow down
    the next contender.
    """
    with scratch() as name:
        folder = Path(name)
        paths = make_slices(folder / "slices")
        for associations in ASSOCIATIONS:
            contenders = {name: partial(rate, name, paths, associations, folder) for name in RECEIVERS}
            title = "one association" if associations == 1 else f"{associations} associations"
            yield Comparison(title, "instances/s", alternate(rounds, contenders), higher_is_better=True)


def rate(name: str, paths: Sequence[Path], associations: int, folder: Path) -> float:
    """Return how many instances a receiver takes per second; the time includes the start of the senders."""
    with RECEIVERS[name](Path(tempfile.mkdtemp(dir=folder))) as receiver:
        started = time.perf_counter()
        send(paths, receiver, associations)
        return len(paths) / (time.perf_counter() - started)
