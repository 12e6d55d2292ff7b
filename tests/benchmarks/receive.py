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
Hilum answers Success when file, folder and row are synced to the disk. Orthanc (TCP_NODELAY, PDUs of 128 KB, eight
threads) syncs the file. storescp (`--fork +B`, TCP_NODELAY, PDUs of 128 KB) syncs nothing and records nothing: it shows
what the transfer alone takes.

These changes reduced the processor time, in milliseconds per instance over all of Hilum's processes (without the
senders), or the number of system calls per instance where other load on the machine hides the time:

| change | before | after |
| --- | ---: | ---: |
| one thread per association, which writes directly to the file: 8 associations | 4.2 | 2.4 |
| one sync of the folder and one commit for all instances that wait: 8 associations | 2.4 | 2.0 |
| the most frequent statements go directly to the database driver, in a loop | 0.135 | 0.045 |
| C-STORE bypasses pynetdicom's message classes, and data is read ahead: one association | 2.08 | 1.73 |
| the same: 8 associations | 2.50 | 1.98 |
| an instance's UIDs are read from its first 16 KB, in a loop | 0.135 | 0.046 |
| the last three changes, calls of futex (waits for the interpreter): 8 associations | 292 | 51 |
| the last three changes, calls of lseek, poll and recvfrom together | 81 | 7 |

Two ideas gained nothing and were left out: to rename the file before it is synced, so that the folder's sync finds the
journal already written (2.98 ms for both syncs, 2.96 the other way round), and to allocate the file's space beforehand.

To bypass the page cache when writing (O_DIRECT) was tried and left out, too. With eight associations it took a third
less processor time (1.10 ms per instance instead of 1.67; 393 instances per second instead of 354), with one it saved
nothing. But the worker would have to read its study from the disk, and 230 images of 512 KB per second already fill a
gigabit line.

With one association, the time of an instance is made up as follows, by the clock within `hilum node`, on a quiet
machine:

| part | ms |
| --- | ---: |
| hash the data set, and pass it to the file system as it arrives | 0.44 |
| sync and rename the file | 0.70 |
| read UIDs, check the path | 0.16 |
| sync the folder | 0.16 |
| write and commit the row, with the sync of SQLite's log | 0.36 |
| open the file, prepare its meta information | 0.11 |
| read the socket, and wait for the sender there | 0.32 |
| parse PDUs, answer, and the sender's start as shared by all instances | 0.65 |
| the whole | 2.9 |

The goal, 2.5 times as fast as Orthanc (1.7 ms per instance), cannot be reached with one association on this machine:
even if syncs took no time at all, 2.0 ms would remain. With eight, the two cores are fully used: 1.7 ms of the node's
and about 1 ms of the senders' processor time per instance allow 740 instances per second if nothing ever waits. SHA-256
takes 0.3 ms of the node's share, and an association that proposes 128 presentation contexts, as storescu does, costs
another 12 ms. Eight threads that only write, sync and rename files of 512 KB reached 820 to 970 files per second here.

Orthanc waits for one sync per instance, Hilum for three. If others keep the disk busy, each sync also waits for
their writes: with a load of 20 on the two cores, one association reached 17 to 35 instances per second with Hilum
and 95 to 148 with Orthanc, and eight reached 43 to 79 and 63 to 91."""


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
