"""A storm: many senders at work while one part after another is broken."""

from __future__ import annotations

import math
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sqlalchemy import Engine

from dicom_node.record.schema import deliveries, jobs
from dicom_node.study import DeliveryState
from tests.dicom_node.recording import opened, rows
from tests.faults.clock import Clock, settable_clock
from tests.faults.pacs import BrokenPACS, Mood
from tests.faults.senders import Scanner, Senders, Study
from tests.faults.site import Site, site
from tests.faults.verdict import Verdict, judge, stuck_studies
from tests.services import postgres_cluster, wait_until

SERVICES = ("redis", "node", "deliver", "worker-1", "worker-2")
REDIS_LOSING_DATA = "redis, its data lost"
SETTLING_SECONDS = 120.0
"""Time in which the senders must finish, and then at least one more study must settle, again and again.

It is shorter than the time limit of a test. How long all studies take says more about the machine than about Hilum.
"""
LONGEST_JUMP_SECONDS = 12 * 3600
LATE_EVERY, MEASURED_EVERY = 20, 3


@dataclass
class Storm:
    """What happened in a storm, and what became of the studies."""

    database: str
    studies: int
    kills: Counter[str] = field(default_factory=Counter)
    moods: Counter[Mood] = field(default_factory=Counter)
    frozen: int = 0
    jumps: int = 0
    """How many times the clock was set."""
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from each kill until the process was ready again, by what was killed."""
    images: int = 0
    images_sent: int = 0
    reports: int = 0
    objects: int = 0
    objects_came: int = 0
    given_up: int = 0
    """Jobs that were reported as not measured, because every attempt was cut short."""
    ended: Counter[str] = field(default_factory=Counter)
    """How many times each process ended without being killed."""
    seconds: float = 0.0
    verdict: Verdict | None = None

    @property
    def longest_recovery_seconds(self) -> float:
        return max(max(seconds) for seconds in self.recoveries.values())

    @property
    def median_recovery_seconds(self) -> float:
        return statistics.median(s for seconds in self.recoveries.values() for s in seconds)


def run_storm(
    folder: Path,
    database: str,
    *,
    studies: int,
    kills: int,
    senders: int = 8,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Storm:
    """Send studies while things break; then wait until all is settled, and return what became of them.

    Parameters
    ----------
    database : str
        "sqlite" or "postgresql".
    """
    started, storm = time.monotonic(), Storm(database, studies)
    # The seed makes it reproducible what breaks when; it protects nothing.
    scanner, chance = Scanner(seed), Random(seed)  # noqa: S311
    sent = [make_study(scanner, number) for number in range(studies)]
    with scene(folder, database, seed) as there:
        modalities = Senders(there.site.port, senders)
        for number in range(kills):
            for study in sent[studies * number // kills : studies * (number + 1) // kills]:
                modalities.put(study)
            break_something(there, storm, chance)
            say(f"{number + 1} of {kills} kills, {len(there.pacs.came)} objects in the PACS")
        there.pacs.set_mood(Mood.WELL)
        settle(there, modalities, say)
        for study in sent:
            if study.late:
                study.images, study.late = [*study.images, *study.late], []
                modalities.put(study)
        settle(there, modalities, say)
        modalities.close()
        storm.verdict = judge(sent, there.pacs.came, there.record)
        count(storm, sent, there)
    storm.seconds = time.monotonic() - started
    return storm


@dataclass
class Scene:
    """Everything that can be broken, and the record."""

    site: Site
    pacs: BrokenPACS
    clock: Clock
    record: Engine

    @property
    def targets(self) -> list[str]:
        """What may be killed."""
        return [*self.site.services, REDIS_LOSING_DATA]


@contextmanager
def scene(folder: Path, database: str, seed: int) -> Iterator[Scene]:
    """Run everything until the ``with`` block ends."""
    with (
        BrokenPACS(folder / "pacs", seed) as pacs,
        settable_clock() as clock,
        postgres_cluster() if database == "postgresql" else nullcontext() as postgres,
    ):
        url = postgres.url("postgres") if postgres else f"sqlite:///{folder}/record.sqlite3"
        destinations = [pacs.destination]
        with (
            site(folder / "site", url, destinations, SERVICES, postgres=postgres, clock=clock) as there,
            opened(url) as record,
        ):
            yield Scene(there, pacs, clock, record)


def make_study(scanner: Scanner, number: int) -> Study:
    """Return one of the storm's studies: some can be measured, some are too short, some have an image that is late."""
    late = 1 if number % LATE_EVERY == 0 else 0
    return scanner.study(number, 12 if number % MEASURED_EVERY == 0 else 3, late=late)


def break_something(there: Scene, storm: Storm, chance: Random) -> None:
    """Change the PACS's mood, perhaps freeze a worker, perhaps set the clock; kill a service at a random moment."""
    mood = chance.choice(list(Mood))
    there.pacs.set_mood(mood)
    storm.moods[mood] += 1
    if chance.random() < 0.1:
        freeze(there.site, "worker-1")
        storm.frozen += 1
    time.sleep(chance.uniform(0.0, 1.0))
    if chance.random() < 0.3:
        there.clock.set_by(chance.randint(-LONGEST_JUMP_SECONDS, LONGEST_JUMP_SECONDS))
        storm.jumps += 1
    time.sleep(chance.uniform(0.0, 1.0))
    target = chance.choice(there.targets)
    name, _, loses_data = target.partition(", ")
    storm.recoveries.setdefault(target, []).append(there.site.kill_until_ready(name, wipe=bool(loses_data)))
    storm.kills[target] += 1


def freeze(there: Site, name: str, seconds: float = 5.0) -> None:
    """Stop a process for longer than its lease, and then let it continue."""
    pid = there.services[name].pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def settle(there: Scene, modalities: Senders, say: Callable[[str], None]) -> None:
    """Wait until all is sent and answered; resend what the PACS rejected, as an administrator would."""
    wait_until(there.site.ready, "all services", 60)
    wait_until(modalities.idle, "the senders", SETTLING_SECONDS)
    fewest, deadline = math.inf, 0.0
    while stuck := stuck_studies(there.record):
        if len(stuck) < fewest:
            fewest, deadline = len(stuck), time.monotonic() + SETTLING_SECONDS
        if time.monotonic() > deadline:
            break  # the verdict names them
        say(f"{len(stuck)} to go")
        if any(row["state"] == DeliveryState.REJECTED for row in rows(there.record, deliveries)):
            there.site.command("resend")
        time.sleep(1.0)


def count(storm: Storm, sent: list[Study], there: Scene) -> None:
    """Count images, objects, given-up jobs and unexpected ends of processes into the storm's figures."""
    came = there.pacs.came
    storm.images = sum(len(study.images) for study in sent)
    storm.images_sent = sum(study.times_sent for study in sent)
    storm.objects_came = len(came)
    storm.objects = len({held.sop_instance_uid for held in came})
    storm.reports = len({held.sop_instance_uid for held in came if held.modality == "SR"})
    storm.given_up = sum(bool(row["given_up"]) for row in rows(there.record, jobs))
    for name, service in there.site.services.items():
        killed = sum(count for target, count in storm.kills.items() if target.partition(", ")[0] == name)
        storm.ended[name] = service.starts - 1 - killed
