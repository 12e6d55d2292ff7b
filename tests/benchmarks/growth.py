"""How time and memory grow with the slices of a study, and with the studies in the record."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine, insert

from dicom_node.dispatch.jobs import Jobs
from dicom_node.listing import list_studies
from dicom_node.record.database import open_database
from dicom_node.record.schema import jobs, studies
from dicom_node.settings import JobSettings
from dicom_node.study import JobState, Priority, StudyState
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.machine import scratch
from tests.benchmarks.pipeline import analyze_once
from worker.phantom import write_phantom

SLICES = (50, 150, 300, 700, 1200)
STUDIES = (1_000, 100_000, 1_000_000)
LISTED = 50

TITLE = "How cost grows"
TEXT = f"""\
The whole analysis of phantoms of the same length with more and thinner slices. Then the record in SQLite: listing
the newest {LISTED} studies, and claiming a job, among more and more studies that are done."""


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure studies of more slices, then a record of more studies."""
    seconds: dict[str, list[float]] = defaultdict(list)
    peak: dict[str, list[float]] = defaultdict(list)
    with scratch() as name:
        for slices in SLICES:
            study = Path(name, f"study{slices}")
            write_phantom(study, slices=slices)
            for turn in range(rounds):
                parts, peak_mb = analyze_once(study, Path(name, f"out{slices}-{turn}"))
                seconds[f"{slices} slices"].append(sum(parts.values()))
                peak[f"{slices} slices"].append(peak_mb)
    yield Comparison("the whole analysis, by slices", "s", seconds)
    yield Comparison("its peak memory (resident)", "MB", peak)
    yield from measure_record(rounds)


def measure_record(rounds: int) -> Iterator[Comparison]:
    """Fill a record further and further, and ask it."""
    listing: dict[str, list[float]] = defaultdict(list)
    claiming: dict[str, list[float]] = defaultdict(list)
    with scratch() as name:
        record = open_database(f"sqlite:///{Path(name, 'record.sqlite3')}")
        held = 0
        for size in STUDIES:
            fill(record, held, size)
            held = size
            for turn in range(rounds):
                listing[f"{size:,} studies"].append(milliseconds(partial(list_studies, record, LISTED)))
                job_id = wait_in_record(record, f"waiting-{size}-{turn}")
                claim = partial(Jobs(record, JobSettings()).claim, job_id)
                claiming[f"{size:,} studies"].append(milliseconds(claim))
        record.dispose()
    yield Comparison(f"listing {LISTED} studies of a record", "ms", listing)
    yield Comparison("claiming a job in a record", "ms", claiming)


def fill(record: Engine, begin: int, end: int, batch: int = 20_000) -> None:
    """Add studies that are done."""
    for first in range(begin, end, batch):
        names = [f"1.2.3.{number}" for number in range(first, min(first + batch, end))]
        with record.begin() as connection:
            add(connection, names, StudyState.SELECTED, JobState.DONE)


def wait_in_record(record: Engine, name: str) -> str:
    """Add a study whose job waits; return the job's id."""
    with record.begin() as connection:
        add(connection, [name], StudyState.SELECTED, JobState.QUEUED)
    return name


def add(connection: Connection, names: list[str], study: StudyState, job: JobState) -> None:
    """Add studies with a job each."""
    now = time.time()
    connection.execute(
        insert(studies),
        [
            {"study_instance_uid": uid, "state": study, "priority": Priority.ROUTINE, "first_instance_at": now}
            for uid in names
        ],
    )
    connection.execute(
        insert(jobs),
        [
            {
                "job_id": uid,
                "study_instance_uid": uid,
                "input_sha256": "",
                "revision": 1,
                "priority": Priority.ROUTINE,
                "state": job,
                "created_at": now,
                "due_at": now,
            }
            for uid in names
        ],
    )


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)
