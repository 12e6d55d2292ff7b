"""Stored instances enter the record in batches, each one transaction."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import select
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from dicom_node.receive import recorder
from dicom_node.receive.intake import Arrival, Intake
from dicom_node.receive.recorder import Recorder
from dicom_node.record import postgres
from dicom_node.record.schema import studies
from dicom_node.study import Association, Instance, Priority, Reception
from tests.dicom_node.recording import instance, opened, record_one
from tests.services import wait_until


class SlowIntake:
    """Notes the instances of each transaction; transactions wait until ``go`` is set."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.fails_with: DBAPIError | None = None
        self.poison: type[Exception] = OSError

    def record_all(self, arrivals: Sequence[Arrival]) -> list[Reception]:
        self.batches.append([one.instance.sop_instance_uid for one in arrivals])
        self.begun.set()
        assert self.go.wait(30)
        if self.fails_with:
            raise self.fails_with
        if len(arrivals) > 1 and any(one.instance.sop_instance_uid == "poison" for one in arrivals):
            raise self.poison(5, "one of several")
        if arrivals[0].instance.sop_instance_uid == "poison":
            raise self.poison(5, "this one")
        return [Reception.NEW for _ in arrivals]


def arrival(folder: Path, sop: str) -> Arrival:
    instance = Instance("1.2", "1.3", sop, "1.4", "1.5", "0" * 64, 1, folder / f"{sop}.dcm")
    return Arrival(instance, Association("a", "CALLING", "CALLED", "127.0.0.1"), Priority.ROUTINE)


@pytest.fixture
def intake() -> SlowIntake:
    return SlowIntake()


def test_who_waits_is_recorded_together(intake: SlowIntake, tmp_path: Path) -> None:
    subject = Recorder(intake)  # type: ignore[arg-type]  # has the one method of Intake that is used
    with ThreadPoolExecutor() as pool:
        first = pool.submit(subject.record, arrival(tmp_path, "first"))
        assert intake.begun.wait(30)
        others = [pool.submit(subject.record, arrival(tmp_path, sop)) for sop in ("a", "b", "c")]
        wait_until(lambda: len(subject._waiting) == 3, "three wait")
        intake.go.set()
        assert [one.result() for one in (first, *others)] == [Reception.NEW] * 4
    assert [sorted(batch) for batch in intake.batches] == [["first"], ["a", "b", "c"]]


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_one_failure_is_not_the_others(intake: SlowIntake, tmp_path: Path, kind: type[Exception]) -> None:
    """The failure may be the disk's, or a defect of Hilum."""
    intake.poison = kind
    subject = Recorder(intake)  # type: ignore[arg-type]  # has the one method of Intake that is used
    with ThreadPoolExecutor() as pool:
        first = pool.submit(subject.record, arrival(tmp_path, "first"))
        assert intake.begun.wait(30)
        poison = pool.submit(subject.record, arrival(tmp_path, "poison"))
        good = pool.submit(subject.record, arrival(tmp_path, "good"))
        wait_until(lambda: len(subject._waiting) == 2, "two wait")
        intake.go.set()
        assert (first.result(), good.result()) == (Reception.NEW, Reception.NEW)
        with pytest.raises(kind, match="this one"):
            poison.result()


def failed_together(intake: SlowIntake, folder: Path, error: DBAPIError) -> None:
    """Let five instances wait behind a first one, and assert that all six fail with the error."""
    subject = Recorder(intake)  # type: ignore[arg-type]  # has the one method of Intake that is used
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(subject.record, arrival(folder, "first"))
        assert intake.begun.wait(30)
        others = [pool.submit(subject.record, arrival(folder, sop)) for sop in "abcde"]
        wait_until(lambda: len(subject._waiting) == 5, "five wait")
        intake.fails_with = error
        intake.go.set()
        assert [one.exception() for one in (first, *others)] == [error] * 6


def test_a_database_that_does_not_answer_is_tried_once_for_all_that_wait(intake: SlowIntake, tmp_path: Path) -> None:
    failed_together(intake, tmp_path, OperationalError(None, None, Exception("database is locked")))
    assert [len(batch) for batch in intake.batches] == [1, 5]


def test_a_value_that_the_database_does_not_take_is_looked_for(intake: SlowIntake, tmp_path: Path) -> None:
    failed_together(intake, tmp_path, DataError(None, None, Exception("it may be one instance's own")))
    assert [len(batch) for batch in intake.batches] == [1, 5, 1, 1, 1, 1, 1]


def test_a_deadlock_is_an_answer_and_each_instance_is_tried_alone(intake: SlowIntake, tmp_path: Path) -> None:
    failed_together(intake, tmp_path, OperationalError(None, None, DeadlockDetected()))
    assert [len(batch) for batch in intake.batches] == [1, 5, 1, 1, 1, 1, 1]


@pytest.mark.node
def test_a_study_that_a_vanished_host_has_locked_is_not_the_other_studies_failure(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres.LIMITS, "lock_timeout", "200ms")
    with opened(postgres_url) as engine, engine.connect() as vanished, ThreadPoolExecutor() as pool:
        intake = Intake(engine)
        association = intake.open_association("SENDER", "HILUM", "127.0.0.1")
        record_one(intake, instance("1.1.1", study="1.1"), association)
        vanished.execute(select(studies.c.state).where(studies.c.study_instance_uid == "1.1").with_for_update())
        subject = Recorder(intake)

        def arriving(study: str) -> Arrival:
            return Arrival(
                replace(instance(f"{study}.2", study=study), path=tmp_path / study), association, Priority.ROUTINE
            )

        with subject._turn:
            locked, other = (pool.submit(subject.record, arriving(study)) for study in ("1.1", "1.2"))
            wait_until(lambda: len(subject._waiting) == 2, "two wait")
        assert other.result() == Reception.NEW
        with pytest.raises(OperationalError, match="lock timeout"):
            locked.result()


def test_the_folder_is_synced_before_the_record_hears_of_a_file(
    intake: SlowIntake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.go.set()
    synced: list[tuple[Path, int]] = []
    monkeypatch.setattr(recorder, "sync", lambda folder: synced.append((folder, len(intake.batches))))
    Recorder(intake).record(arrival(tmp_path, "a"))  # type: ignore[arg-type]  # see above
    assert synced == [(tmp_path, 0)]
