"""Growth of time and memory with a study's slices and matrix, with associations, and with studies in the record."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from sqlalchemy import Connection, Engine, insert

from dicom_node.dispatch.jobs import Jobs
from dicom_node.record.database import open_database
from dicom_node.record.schema import jobs, studies
from dicom_node.record.studies import list_studies
from dicom_node.settings import JobSettings
from dicom_node.study import JobState, Priority, StudyState
from tests.benchmarks.comparison import Comparison
from tests.benchmarks.machine import pss_mb, scratch
from tests.benchmarks.pipeline import analyze_once
from tests.benchmarks.receivers import hilum, make_slices, send
from worker.phantom import write_phantom

SLICES = (50, 150, 300, 700, 1200, 2000)
MATRICES = (256, 512, 768, 1024)
SLICES_OF_MATRICES = 150
ASSOCIATIONS = (1, 2, 4, 8, 16, 32)
STUDIES = (1_000, 10_000, 100_000, 1_000_000)
LISTED = 50

Figures = defaultdict[str, list[float]]

TITLE = "How cost grows"
TEXT = f"""\
The first tables show the whole analysis: of phantoms of the same length with more and more, thinner slices, and of a
phantom of {SLICES_OF_MATRICES} slices with more and more, smaller pixels. Then the node receives 300 instances of
512 KB over more and more associations at once, and its memory (PSS) is measured afterwards. Each association
proposes 128 presentation contexts, and with 32 associations each sends only nine instances, so negotiating takes
more and more of the time (`hilum bench load` measures the throughput itself). The last tables show a record in
SQLite with more and more studies that are done: listing the newest {LISTED} studies, and claiming a job."""


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure growth with slices, with columns, with associations and with the record, one after another."""
    with scratch() as name:
        yield from measure_studies(rounds, "slices", longer_studies(Path(name)))
    with scratch() as name:
        yield from measure_studies(rounds, "columns", finer_studies(Path(name)))
    with scratch() as name:
        yield from measure_associations(rounds, Path(name))
    with scratch() as name:
        yield from measure_record(rounds, Path(name))


def longer_studies(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield studies of more and more slices."""
    for slices in SLICES:
        study = folder / str(slices)
        write_phantom(study, slices=slices)
        yield slices, study


def finer_studies(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield studies of the same body with more and more columns and rows."""
    phantom = folder / "phantom"
    write_phantom(phantom, slices=SLICES_OF_MATRICES)
    for columns in MATRICES:
        study = folder / str(columns)
        study.mkdir()
        for path in sorted(phantom.iterdir()):
            with_matrix(pydicom.dcmread(path), columns).save_as(study / path.name)
        yield columns, study


def with_matrix(ds: pydicom.Dataset, columns: int) -> pydicom.Dataset:
    """Resample an image to this many columns and rows, by nearest neighbour; return it."""
    nearest = np.arange(columns) * ds.Columns // columns
    pixels = ds.pixel_array[np.ix_(nearest, nearest)]
    ds.PixelSpacing = [float(spacing) * ds.Columns / columns for spacing in ds.PixelSpacing]
    ds.Rows = ds.Columns = columns
    ds.PixelData = pixels.tobytes()
    return ds


def measure_studies(rounds: int, along: str, grown: Iterable[tuple[int, Path]]) -> Iterator[Comparison]:
    """Measure time and peak memory of analysing studies of growing size."""
    seconds, peak = Figures(list), Figures(list)
    for size, study in grown:
        for turn in range(rounds):
            parts, peak_mb = analyze_once(study, study.with_name(f"out{size}-{turn}"))
            seconds[str(size)].append(sum(parts.values()))
            peak[str(size)].append(peak_mb)
    yield Comparison(f"the whole analysis, by {along}", "s", seconds, along=along)
    yield Comparison(f"its peak memory (resident), by {along}", "MB", peak, along=along)


def measure_associations(rounds: int, folder: Path) -> Iterator[Comparison]:
    """Receive the same instances from more and more senders, each time with a new node."""
    rate, memory = Figures(list), Figures(list)
    paths = make_slices(folder / "slices")
    for _ in range(rounds):
        for count in ASSOCIATIONS:
            with hilum(Path(tempfile.mkdtemp(dir=folder))) as receiver:
                started = time.perf_counter()
                send(paths, receiver, count)
                rate[str(count)].append(len(paths) / (time.perf_counter() - started))
                memory[str(count)].append(pss_mb(receiver.process.pid))
    yield Comparison("receiving", "instances/s", rate, higher_is_better=True, along="associations")
    yield Comparison("the node's memory after that (PSS)", "MB", memory, along="associations")


def measure_record(rounds: int, folder: Path) -> Iterator[Comparison]:
    """Fill a record step by step; at each size, measure listing studies and claiming a job."""
    listing, claiming = Figures(list), Figures(list)
    record = open_database(f"sqlite:///{folder / 'record.sqlite3'}", folder)
    Jobs(record, JobSettings()).claim(wait_in_record(record, "the first"))  # the first claim takes longer, at any size
    list_studies(record, LISTED)
    held = 0
    for size in STUDIES:
        fill(record, held, size)
        held = size
        for turn in range(rounds):
            listing[str(size)].append(milliseconds(partial(list_studies, record, LISTED)))
            job_id = wait_in_record(record, f"waiting-{size}-{turn}")
            claiming[str(size)].append(milliseconds(partial(Jobs(record, JobSettings()).claim, job_id)))
    record.dispose()
    yield Comparison(f"listing {LISTED} studies of a record", "ms", listing, along="studies")
    yield Comparison("claiming a job in a record", "ms", claiming, along="studies")


def fill(record: Engine, begin: int, end: int, batch: int = 20_000) -> None:
    """Add studies whose jobs are done, with the numbers from begin to end."""
    for first in range(begin, end, batch):
        names = [f"1.2.3.{number}" for number in range(first, min(first + batch, end))]
        with record.begin() as connection:
            add(connection, names, StudyState.SELECTED, JobState.DONE)


def wait_in_record(record: Engine, name: str) -> str:
    """Add a study with a queued job; return the job's id."""
    with record.begin() as connection:
        add(connection, [name], StudyState.SELECTED, JobState.QUEUED)
    return name


def add(connection: Connection, names: list[str], study: StudyState, job: JobState) -> None:
    """Add studies with one job each."""
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
