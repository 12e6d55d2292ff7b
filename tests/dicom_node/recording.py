"""Functions that fill the record for tests, and a clock and a doorbell for it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis.stateful import RuleBasedStateMachine
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)
from sqlalchemy import Engine, Table, select, update

from dicom_node.dispatch.dispatcher import Dispatcher
from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.received import instances_of, leave_receiving
from dicom_node.dispatch.transitions import enqueue
from dicom_node.errors import PassingFailure, RejectedInput
from dicom_node.receive.intake import Arrival, Intake
from dicom_node.record.database import open_database, reading
from dicom_node.record.schema import jobs, studies
from dicom_node.settings import JobSettings
from dicom_node.study import (
    REJECTION_NOTE,
    REPORT,
    Association,
    Ending,
    Instance,
    Job,
    JobState,
    Priority,
    Reception,
    Result,
    StudyActivity,
    StudyState,
)

STUDY = "1.2.3"
STORAGE = Path("/storage")
"""The storage of a record, unless a test says otherwise. Files elsewhere have absolute paths in the record."""
RESULTS = STORAGE / "results"


@contextmanager
def opened(url: str, storage: Path = STORAGE) -> Iterator[Engine]:
    """Open a record until the ``with`` block ends."""
    engine = open_database(url, storage)
    try:
        yield engine
    finally:
        engine.dispose()


class Clock:
    """A clock that stands still until it is moved; it replaces the clocks of the modules that ask for the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1_000_000.0
        self.steady = 0.0
        for module in (
            "receive.intake",
            "dispatch.jobs",
            "dispatch.transitions",
            "dispatch.dispatcher",
            "deliver.outbox",
            "deliver.notifier",
            "deliver.webhook",
            "deliver.commitment",
            "record.retention",
        ):
            monkeypatch.setattr(f"dicom_node.{module}.now", lambda: self.seconds)
        monkeypatch.setattr("dicom_node.dispatch.dispatcher.monotonic", lambda: self.steady)

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds
        self.steady += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as an administrator does; the steady clock stays."""
        self.seconds += seconds


class Bell:
    """A doorbell that notes its rings, or fails if ``broken``; rings stay unheard until the test resets ``unheard``."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, Priority]] = []
        self.unheard = 0
        self.broken = False

    def ring(self, job_id: str, priority: Priority) -> None:
        if self.broken:
            raise PassingFailure("broker-unreachable", "the broker does not answer")
        self.rung.append((job_id, priority))
        self.unheard += 1

    def count_unheard(self, _: Priority) -> int:
        return self.unheard


class RecordMachine(RuleBasedStateMachine):
    """A state machine on a record of its own, with a clock that it moves."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock(self.patch)
        self.folder = tempfile.TemporaryDirectory()
        self.engine = open_database(f"sqlite:///{self.folder.name}/record.sqlite3", STORAGE)

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()
        self.patch.undo()


def instance(
    sop: str = "1.2.3.1.1",
    content: str = "bytes",
    *,
    study: str = STUDY,
    series: str = "1.2.3.1",
    sop_class: str = CTImageStorage,
) -> Instance:
    return Instance(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=sop,
        sop_class_uid=sop_class,
        transfer_syntax_uid=ImplicitVRLittleEndian,
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        size_bytes=len(content),
        path=Path(f"/storage/{study}/{sop}-{content}.dcm"),
    )


def record_one(
    intake: Intake, one: Instance, association: Association, priority: Priority = Priority.ROUTINE
) -> Reception:
    """Record one instance in its own transaction."""
    return intake.record_all([Arrival(one, association, priority)])[0]


def receive(intake: Intake, *received: Instance, priority: Priority = Priority.ROUTINE) -> list[Reception]:
    """Record instances that arrive on one association, and close it."""
    association = intake.open_association("SENDER", "HILUM", "127.0.0.1")
    answers = [record_one(intake, one, association, priority) for one in received]
    intake.close_association(association.association_id)
    return answers


def take_turn(dispatcher: Dispatcher) -> None:
    """Dispatch whole studies, take back lost jobs, and ring for jobs that wait."""
    dispatcher.settle()
    dispatcher.ring()


def settled(record: Engine, activity: StudyActivity, state: StudyState = StudyState.SELECTED) -> bool:
    """Settle a study with its series selected; return whether it was settled."""
    with record.begin() as connection:
        return leave_receiving(connection, activity, state, "", {"1.2.3.1": "selected"}, "1.2.3.1")


def make_job(
    engine: Engine,
    *,
    study: str = STUDY,
    instances: int = 2,
    priority: Priority = Priority.ROUTINE,
    rejection: RejectedInput | None = None,
) -> str:
    """Record a study with a job, and return the job's id."""
    intake = Intake(engine)
    receive(intake, *(instance(f"{study}.1.{number}", study=study) for number in range(instances)))
    stored = instances_of(engine, study)
    with engine.begin() as connection:
        enqueue(connection, study, priority, stored, f"{study}.1", rejection)
        connection.execute(
            update(studies).where(studies.c.study_instance_uid == study).values(state=StudyState.SELECTED)
        )
        return str(
            connection.scalar(
                select(jobs.c.job_id).where(jobs.c.study_instance_uid == study).order_by(jobs.c.revision.desc())
            )
        )


def claimed(queue: Jobs, job_id: str) -> Job:
    """Claim a job that is due."""
    job = queue.claim(job_id)
    assert job is not None
    return job


def finish_study(
    record: Engine, study: str = STUDY, destinations: tuple[str, ...] = ("PACS",), folder: Path = RESULTS
) -> None:
    """Record a study whose two results wait in the outbox; the folder is where their files would be."""
    queue = Jobs(record, JobSettings())
    job = claimed(queue, make_job(record, study=study))
    assert queue.finish(job, Ending(JobState.DONE), results_of(study, folder), destinations)


def revise_study(record: Engine, study: str = STUDY, destinations: tuple[str, ...] = ("PACS",)) -> tuple[Result, ...]:
    """Finish a second revision, whose rejection note withdraws the first."""
    queue = Jobs(record, JobSettings())
    job = claimed(queue, make_job(record, study=study, instances=3))
    report, note = (
        replace(result, sop_instance_uid=f"{result.sop_instance_uid}.2", kind=kind)
        for result, kind in zip(results_of(study), (REPORT, REJECTION_NOTE), strict=True)
    )
    assert queue.finish(job, Ending(JobState.DONE), (report, note), destinations)
    return report, note


def results_of(study: str = STUDY, folder: Path = RESULTS) -> tuple[Result, Result]:
    """Return a segmentation, and the report that refers to it."""
    return (
        Result(f"{study}.9.1", SegmentationStorage, ExplicitVRLittleEndian, "seg", folder / "seg.dcm"),
        Result(f"{study}.9.2", ComprehensiveSRStorage, ExplicitVRLittleEndian, "sr", folder / "sr.dcm"),
    )


def rows(engine: Engine, table: Table) -> list[dict[str, object]]:
    """Return all rows of a table."""
    with reading(engine) as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]
