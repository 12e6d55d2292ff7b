"""From the last C-STORE of a study to its results in the PACS, and a steady stream of studies."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid
from sqlalchemy import Engine, func, select

from dicom_node.record.database import open_database, reading
from dicom_node.record.schema import deliveries, instances, jobs, results
from dicom_node.study import DeliveryState
from tests.benchmarks.comparison import HILUM, Comparison
from tests.benchmarks.machine import pss_mb, scratch
from tests.benchmarks.receivers import SLICES
from tests.services import Up, dcmtk, hilum_up, orthanc_server, wait_until
from worker.phantom import write_phantom

QUIET_SECONDS = 2.0
STREAM_STUDIES = 12
STREAM_SLICES = 60

TITLE = "End to end"
TEXT = f"""\
`hilum up` runs between DCMTK's storescu, which sends the studies, and an Orthanc as the PACS; the times are those in
the record. First comes one study of {SLICES} slices (the phantom), timed from its last stored instance to the last
result that Orthanc acknowledged, without the quiet time after which a study counts as complete. Then comes a stream:
{STREAM_STUDIES} studies of {STREAM_SLICES} slices at once, and an urgent one after them.

A worker grows by 80 MB with its second study, and then stays at that size: when studies were sent one after the
other, all processes together took 846 MB after the first, 927 after the second, 948 after the eighth and 952 after
the 24th."""


@dataclass(frozen=True)
class Times:
    """A study's times in the record, in seconds since the epoch."""

    last_stored: float
    started: float
    finished: float
    last_sent: float

    @property
    def seconds(self) -> float:
        """Seconds from the last stored instance to the last acknowledged result, without the quiet time."""
        return self.last_sent - self.last_stored - QUIET_SECONDS


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure single studies, then a stream of studies."""
    parts: dict[str, list[float]] = defaultdict(list)
    whole = []
    with scratch() as name:
        folder = Path(name)
        write_phantom(folder / "study", slices=SLICES)
        with hilum_with_orthanc(folder) as (up, record):
            for turn in range(rounds):
                times = answered(record, send(renamed(folder / "study", folder / f"study{turn}"), up, "HILUM"))
                whole.append(times.seconds)
                parts["found whole and claimed"].append(times.started - times.last_stored - QUIET_SECONDS)
                parts["measured and reported"].append(times.finished - times.started)
                parts["delivered"].append(times.last_sent - times.finished)
    yield Comparison(f"{SLICES} slices, last instance to last result", "s", {HILUM: whole})
    yield Comparison("its parts", "s", parts)
    yield from measure_stream(rounds)


def measure_stream(rounds: int) -> Iterator[Comparison]:
    """Send many routine studies at once and an urgent one last; measure delay and memory over the stream."""
    found: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, list[float]] = defaultdict(list)
    with scratch() as name:
        folder = Path(name)
        write_phantom(folder / "study", slices=STREAM_SLICES)
        for turn in range(rounds):
            with hilum_with_orthanc(folder / f"round{turn}") as (up, record):
                study = renamed(folder / "study", folder / f"first{turn}")
                answered(record, send(study, up, "HILUM"))
                memory["after 1 study"].append(pss_mb(up.process.pid))
                copies = [renamed(folder / "study", folder / f"{turn}-{n}") for n in range(STREAM_STUDIES)]
                routine = [send(copy, up, "HILUM") for copy in copies]
                urgent = send(renamed(folder / "study", folder / f"urgent{turn}"), up, "HILUM_STAT")
                times = sorted((answered(record, uid) for uid in routine), key=lambda t: t.finished)
                work = [t.finished - t.started for t in times]
                third = STREAM_STUDIES // 3
                found["a routine study, first third"].append(sum(work[:third]) / third)
                found["a routine study, last third"].append(sum(work[-third:]) / third)
                found["the urgent study, until answered"].append(answered(record, urgent).seconds)
                found["the last routine study, until answered"].append(times[-1].seconds)
                memory[f"after {STREAM_STUDIES + 2} studies"].append(pss_mb(up.process.pid))
    yield Comparison("a stream: time", "s", found)
    yield Comparison("a stream: memory of all processes (PSS)", "MB", memory)


@contextmanager
def hilum_with_orthanc(folder: Path) -> Iterator[tuple[Up, Engine]]:
    """Run `hilum up` with an Orthanc as its PACS; yield it and its record."""
    (folder / "pacs").mkdir(parents=True)
    with orthanc_server(folder / "pacs") as orthanc:
        pacs = {"name": "PACS", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom_port}
        settings = {"HILUM_NODE__QUIET_SECONDS": str(QUIET_SECONDS), "HILUM_DESTINATIONS": json.dumps([pacs])}
        with hilum_up(folder, **settings) as up:
            wait_until(up.ready, "node and worker", 60)
            record = open_database(f"sqlite:///{folder}/data/record.sqlite3", folder / "data")
            try:
                yield up, record
            finally:
                record.dispose()
                up.process.terminate()
                up.process.wait()


def renamed(study: Path, copy: Path) -> Path:
    """Copy a study under new UIDs."""
    copy.mkdir()
    uids: dict[str, str] = defaultdict(lambda: str(generate_uid()))
    for path in study.glob("*.dcm"):
        ds = pydicom.dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            setattr(ds, keyword, uids[ds[keyword].value])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(copy / path.name)
    return copy


def send(study: Path, up: Up, called: str) -> str:
    """Send a study with storescu and remove its folder; return its Study Instance UID."""
    uid = str(pydicom.dcmread(next(study.glob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)
    command = [dcmtk("storescu"), "-aec", called, "+sd", "127.0.0.1", str(up.port), study]
    subprocess.run(command, check=True)
    shutil.rmtree(study)
    return uid


def answered(record: Engine, study: str) -> Times:
    """Wait until a study's results are all acknowledged; return its times."""
    found: Times = wait_until(lambda: times_of(record, study), "the results", 600)
    time.sleep(0.1)
    return found


def times_of(record: Engine, study: str) -> Times | None:
    """Return the times of a study; None until all its results are sent."""
    stored = select(func.max(instances.c.stored_at)).where(instances.c.study_instance_uid == study)
    job = select(jobs.c.started_at, jobs.c.finished_at, jobs.c.job_id).where(jobs.c.study_instance_uid == study)
    with reading(record) as connection:
        row = connection.execute(job).one_or_none()
        if row is None or row.finished_at is None:
            return None
        of_job = select(deliveries.c.state, deliveries.c.sent_at).join(results).where(results.c.job_id == row.job_id)
        sent = connection.execute(of_job).all()
        if not sent or any(delivery.state != DeliveryState.SENT for delivery in sent):
            return None
        last_stored = connection.scalar(stored)
        return Times(last_stored, row.started_at, row.finished_at, max(delivery.sent_at for delivery in sent))
