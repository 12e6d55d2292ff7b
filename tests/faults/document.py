"""docs/reliability.md, written from the results of the storms."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from dicom_node.settings import JobSettings
from tests.benchmarks.machine import REPOSITORY, commit, describe_machine
from tests.faults.site import QUICK
from tests.faults.storm import Storm

FIGURES = REPOSITORY / "docs" / "reliability.json"
DOCUMENT = REPOSITORY / "docs" / "reliability.md"

HEAD = """\
# Reliability

Written by `python -m tests.faults --write-docs` from docs/reliability.json; do not edit.

## The storm

Node, delivery, two workers, Redis and PostgreSQL run as services that restart half a second after they end. Eight
senders push small CT studies, and send again what was not acknowledged. At random moments, one of the services gets
SIGKILL; for PostgreSQL, all its processes at once. Half of the times that Redis dies, it loses its data too. Meanwhile,
the PACS keeps changing its behaviour: it works well, is slow, full (0xA700) or down, refuses objects (0xC000), or hangs
up before or after it has stored an object. Now and then, a worker is frozen beyond its lease, and the wall clock of all
these processes is set, up to 12 hours forward or back. A third of the studies can be measured; the others have too few
slices and get a report that says so. For some studies, an image arrives late, after the first answer. In the end,
`hilum resend` sends again what the PACS refused.

Then a checker compares what the senders were told with what the PACS holds. It asks the record only for what is stuck,
and for what it calls sent.

* lost: an acknowledged image is in no report; unanswered: a study with acknowledged images has no report
* doubled: two reports cover the same images, or there are more results of a kind than reports
* changed: an object arrived again under the same UID with different bytes
* unasked: a result for a study that nobody sent; unchained: a later report does not name the one before it
* stuck: the record still waits for something; missing: it calls a result sent that never arrived
"""

TAIL = """\
## One thing at a time

`pytest -m fault` runs a short storm and these tests, each against the real processes:

| what is broken | what must hold | test |
|---|---|---|
| order of system calls (strace) | bytes, name, folder and row are synced before Success | test_durability.py |
| disk full, disk read-only | 0xA700; every acknowledged image is whole; it goes on once there is room | test_disk.py |
| PACS down, slow, full, refusing, hanging up, forgetting to answer | one set of results in the end | test_pacs.py |
| a worker frozen beyond its lease | another worker answers; the frozen one adds nothing | test_workers.py |
| a study that kills its worker every time | given up and reported after N tries; the queue goes on | test_workers.py |
| a worker out of memory | the study is reported; the queue goes on | test_workers.py |
| two workers with one job | it is done once | test_workers.py |
| PostgreSQL away | 0xA700; Hilum continues once PostgreSQL is back; no other process ends | test_postgresql.py |
| PostgreSQL hangs (all its processes stopped) | 0xA700; Hilum continues once PostgreSQL does | test_postgresql.py |
| PostgreSQL killed while images arrive | what was acknowledged is there and answered | test_postgresql.py |
| the clock set while a study arrives | the study is neither split nor delayed | test_clock.py |
| the clock set while a job, a dead worker's job, a delivery or a commitment waits | it continues | test_clock.py |
| the clock set while a worker measures | one set of results | test_clock.py |
| Redis away | studies are answered once it is back | test_around.py |
| Redis away when a worker ends a job | the worker takes the next one | test_workers.py |

The clock is set 3 hours forward and 5 hours back. It is the C library's clock, in every process except senders and PACS
(tests/faults/clock.c); the monotonic clock continues, as it does on a machine whose clock is set.

## What this does not show

SIGKILL does not clear the page cache, so the tests do not show that data survives a power cut. That follows from the
order of the system calls, if the disks keep what they report as synced. All processes run on one machine. Files keep
their true times when the clock is set.

If the clock is set back, what waits can still be delayed by as much as its own longest pause: seconds for a first
attempt, an hour for a delivery that has failed for hours. If the clock is set while the node starts, a study may be
answered before its last image arrives, and again afterwards.

Most of the time until a process is back is the time that Python takes to load its libraries.
"""


def write_documents(storm: Storm) -> None:
    """Save the figures of this storm beside those on other databases, and write the document."""
    kept = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    kept[storm.database] = figures(storm)
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text("\n".join([HEAD, *(section(kept[name]) for name in sorted(kept)), TAIL]), encoding="utf-8")


def figures(storm: Storm) -> dict[str, Any]:
    """Return a storm as values for JSON, with the commit and the machine."""
    assert storm.verdict is not None
    return vars(storm) | {
        "kills": dict(storm.kills),
        "ended": dict(storm.ended),
        "moods": {mood.value: count for mood, count in storm.moods.items()},
        "verdict": {name: len(found) for name, found in asdict(storm.verdict).items()},
        "longest_recovery_seconds": round(storm.longest_recovery_seconds, 1),
        "median_recovery_seconds": round(storm.median_recovery_seconds, 1),
        "recoveries": {name: round(max(seconds), 1) for name, seconds in storm.recoveries.items()},
        "sweep_seconds": float(QUICK["HILUM_JOBS__SWEEP_SECONDS"]),
        "measured_at": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": describe_machine(),
    }


def section(found: dict[str, Any]) -> str:
    """Return the section of one storm."""
    machine = found["machine"]
    verdict = ", ".join(f"{count} {name}" for name, count in found["verdict"].items())
    kills = ", ".join(f"{name} {count}" for name, count in sorted(found["kills"].items()))
    ended = ", ".join(f"{name} {count}" for name, count in sorted(found["ended"].items()) if count)
    recoveries = ", ".join(f"{name} {seconds} s" for name, seconds in sorted(found["recoveries"].items()))
    return f"""\
### {found["database"]}

**{found["studies"]} studies through {sum(found["kills"].values())} kills: {verdict}.**

* Kills: {kills}; workers frozen: {found["frozen"]}; the clock set: {found["jumps"]} times.
* Ended without being killed, and started again: {ended or "none"}.
* {found["images"]} images, sent {found["images_sent"]} times; {found["objects"]} results, {found["reports"]} of them
  reports, came to the PACS {found["objects_came"]} times.
* Reported as not measured, because every attempt was cut short: {found["given_up"]}.
* From a kill until the process was at work again: {found["median_recovery_seconds"]} s in the median. The longest:
  {recoveries}. The sweep interval was {found["sweep_seconds"]:g} s ({JobSettings().sweep_seconds:g} s by default).
* {found["seconds"]:.0f} s on {found["measured_at"]} at {found["commit"]}: {machine["cpu"]}, {machine["cores"]} cores,
  load average {machine["load_before"]} at the end.
"""
