"""A storm: many senders, and something breaks all the time."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sqlalchemy import Engine

from dicom_node.record.schema import deliveries
from dicom_node.study import DeliveryState
from tests.dicom_node.recording import opened, rows
from tests.faults.pacs import BrokenPACS, Mood
from tests.faults.senders import Scanner, Senders, Study
from tests.faults.site import Site, site
from tests.faults.verdict import Verdict, judge, stuck_studies
from tests.services import wait_until

SERVICES = ("redis", "node", "deliver", "worker-1", "worker-2")
TARGETS = (*SERVICES, "redis, its data lost")
SETTLING_SECONDS = 300.0
LATE_EVERY, MEASURED_EVERY = 20, 3


@dataclass
class Storm:
    """What happened, and what was left."""

    database: str
    studies: int
    kills: Counter[str] = field(default_factory=Counter)
    moods: Counter[Mood] = field(default_factory=Counter)
    frozen: int = 0
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from each kill until the process was at work again."""
    images: int = 0
    images_sent: int = 0
    reports: int = 0
    objects: int = 0
    objects_came: int = 0
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
    database_url: str,
    *,
    studies: int,
    kills: int,
    senders: int = 8,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Storm:
    """Send studies while things break; return what was left when the dust had settled."""
    started, storm = time.monotonic(), Storm(database_url.partition(":")[0], studies)
    # What breaks when is a matter of chance that can be repeated; it protects nothing.
    scanner, chance = Scanner(seed), Random(seed)  # noqa: S311
    sent = [make_study(scanner, number) for number in range(studies)]
    with (
        BrokenPACS(folder / "pacs", seed) as pacs,
        site(folder / "site", database_url, [pacs.destination], SERVICES) as there,
        opened(database_url) as record,
    ):
        modalities = Senders(there.port, senders)
        for number in range(kills):
            for study in sent[studies * number // kills : studies * (number + 1) // kills]:
                modalities.put(study)
            break_something(there, pacs, storm, chance)
            say(f"{number + 1} of {kills} kills, {len(pacs.came)} objects in the PACS")
        pacs.set_mood(Mood.WELL)
        settle(there, modalities, record, say)
        for study in sent:
            if study.late:
                study.images, study.late = [*study.images, *study.late], []
                modalities.put(study)
        settle(there, modalities, record, say)
        modalities.close()
        storm.verdict = judge(sent, pacs.came, record)
        count(storm, sent, pacs)
    storm.seconds = time.monotonic() - started
    return storm


def make_study(scanner: Scanner, number: int) -> Study:
    """Return one of the storm's studies: some can be measured, some are too short, of some an image comes late."""
    late = 1 if number % LATE_EVERY == 0 else 0
    return scanner.study(number, 12 if number % MEASURED_EVERY == 0 else 3, late=late)


def break_something(there: Site, pacs: BrokenPACS, storm: Storm, chance: Random) -> None:
    """Change the PACS's mood, perhaps freeze a worker, and kill a process at a random moment."""
    mood = chance.choice(list(Mood))
    pacs.set_mood(mood)
    storm.moods[mood] += 1
    if chance.random() < 0.1:
        freeze(there, "worker-1")
        storm.frozen += 1
    time.sleep(chance.uniform(0.0, 2.0))
    target = chance.choice(TARGETS)
    name, _, loses_data = target.partition(", ")
    storm.recoveries.setdefault(target, []).append(there.kill_until_ready(name, wipe=bool(loses_data)))
    storm.kills[target] += 1


def freeze(there: Site, name: str, seconds: float = 5.0) -> None:
    """Stop a process beyond its lease, and let it go on."""
    pid = there.services[name].pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def settle(there: Site, modalities: Senders, record: Engine, say: Callable[[str], None]) -> None:
    """Wait until all is sent and answered, sending again what the PACS refused, as an administrator would."""
    wait_until(there.ready, "all services", 60)
    wait_until(modalities.idle, "the senders", SETTLING_SECONDS)
    deadline = time.monotonic() + SETTLING_SECONDS
    while stuck := stuck_studies(record):
        if time.monotonic() > deadline:
            break  # the verdict names them
        say(f"{len(stuck)} to go")
        if any(row["state"] == DeliveryState.REJECTED for row in rows(record, deliveries)):
            there.command("resend")
        time.sleep(1.0)


def count(storm: Storm, sent: list[Study], pacs: BrokenPACS) -> None:
    """Write down how much there was."""
    storm.images = sum(len(study.images) for study in sent)
    storm.images_sent = sum(study.times_sent for study in sent)
    storm.objects_came = len(pacs.came)
    storm.objects = len({held.sop_instance_uid for held in pacs.came})
    storm.reports = len({held.sop_instance_uid for held in pacs.came if held.modality == "SR"})
