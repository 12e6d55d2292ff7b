"""Priors: matched by Patient ID and issuer, from the record and from the PACS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian
from sqlalchemy import Engine, event

from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.priors import Patient, PriorFetcher, prior_reports, remember_patient
from dicom_node.dispatch.received import instances_of
from dicom_node.dispatch.retrieve import FoundSeries, NotSent
from dicom_node.dispatch.transitions import enqueue
from dicom_node.errors import HungUp, PassingFailure
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.record.database import reading
from dicom_node.settings import JobSettings, PriorSettings, Settings
from dicom_node.study import Ending, JobState, Priority, Result
from tests.dicom_node.recording import claimed, instance, make_job, receive

ANNA = Patient("4711", "HOSPITAL")
REPORT = Path("/storage/report.dcm")


def answered(record: Engine, study: str, patient: Patient, state: JobState = JobState.DONE) -> None:
    """Record a study of a patient that was answered with a report."""
    queue = Jobs(record, JobSettings())
    job = claimed(queue, make_job(record, study=study))
    queue.finish(job, Ending(state), [Result(f"{study}.9", Comprehensive3DSRStorage, "1.2", "report", REPORT)], [])
    known(record, study, patient)


def known(record: Engine, study: str, patient: Patient) -> None:
    with record.begin() as connection:
        remember_patient(connection, [study], patient)


def test_studies_are_locked_in_the_order_in_which_receiving_locks_them(record: Engine) -> None:
    studies = ["1.2.9", "1.2.10", "1.2.8"]
    for study in studies:
        make_job(record, study=study)
    locked = []

    @event.listens_for(record, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: object) -> None:
        said = values.values() if isinstance(values, dict) else values
        locked.append([value for value in said if value in studies])

    with record.begin() as connection:
        remember_patient(connection, studies, ANNA)
    assert [one for one in locked if one] == [[study] for study in sorted(studies)]


def priors_of(record: Engine, study: str) -> tuple[Path, ...]:
    with reading(record) as connection:
        return prior_reports(connection, study)


def test_a_job_is_told_of_reports_on_the_patients_other_studies(record: Engine) -> None:
    answered(record, "1.2.4", ANNA)
    job_id = make_job(record, study="1.2.5")
    known(record, "1.2.5", ANNA)

    job = Jobs(record, JobSettings()).claim(job_id)

    assert job is not None
    assert job.priors == (REPORT,)


@pytest.mark.parametrize(
    "other", [Patient("4712", "HOSPITAL"), Patient("4711", "OTHER"), Patient("4711", ""), Patient("", "HOSPITAL")]
)
def test_another_id_or_issuer_is_another_patient(record: Engine, other: Patient) -> None:
    answered(record, "1.2.4", other)
    make_job(record, study="1.2.5")
    known(record, "1.2.5", ANNA)

    assert priors_of(record, "1.2.5") == ()


def test_studies_without_a_patient_id_are_of_nobody(record: Engine) -> None:
    nobody = Patient("", "")
    answered(record, "1.2.4", nobody)
    make_job(record, study="1.2.5")
    known(record, "1.2.5", nobody)

    assert priors_of(record, "1.2.5") == ()


def test_a_study_is_no_prior_of_itself(record: Engine) -> None:
    answered(record, "1.2.4", ANNA)

    assert priors_of(record, "1.2.4") == ()


def test_a_refusal_is_no_prior(record: Engine) -> None:
    answered(record, "1.2.4", ANNA, JobState.REFUSED)
    make_job(record, study="1.2.5")
    known(record, "1.2.5", ANNA)

    assert priors_of(record, "1.2.5") == ()


def test_figures_that_a_refusal_replaced_are_no_prior(record: Engine) -> None:
    answered(record, "1.2.4", ANNA)
    receive(Intake(record), instance("1.2.4.1.99", study="1.2.4"))
    queue, stored = Jobs(record, JobSettings()), instances_of(record, "1.2.4")
    with record.begin() as connection:
        enqueue(connection, "1.2.4", Priority.ROUTINE, stored, "1.2.4.1", None)
    ((job_id, _),) = queue.to_ring(lambda: 0)
    job = claimed(queue, job_id)
    refusal = Result("1.2.4.10", Comprehensive3DSRStorage, "1.2", "report", Path("/storage/refusal.dcm"))
    queue.finish(job, Ending(JobState.REFUSED), [refusal], [])
    make_job(record, study="1.2.5")
    known(record, "1.2.5", ANNA)

    assert priors_of(record, "1.2.5") == ()


def test_a_report_that_the_pacs_sent_is_a_prior(record: Engine) -> None:
    report = instance("1.2.4.9", study="1.2.4", series="1.2.4.8", sop_class=Comprehensive3DSRStorage)
    receive(Intake(record), report)
    known(record, "1.2.4", ANNA)
    make_job(record, study="1.2.5")
    known(record, "1.2.5", ANNA)

    assert priors_of(record, "1.2.5") == (report.path,)


def test_the_record_holds_no_identifier() -> None:
    assert ANNA.key is not None
    assert "4711" not in ANNA.key
    assert len(ANNA.key) == 64


class Source:
    """A PACS with one earlier study; replaces the functions that ask over the network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, study: str = "1.2.4") -> None:
        self.found = [FoundSeries(study, f"{study}.1")]
        self.asked: list[str] = []
        self.fails = False
        self.failure: PassingFailure = HungUp("association-lost", "it broke off")
        self.reports: list[FoundSeries] = []
        self.moved: list[FoundSeries] = []
        self.on_move: Callable[[], None] = lambda: None
        monkeypatch.setattr("dicom_node.dispatch.priors.find_reports", lambda *_: self.reports)
        monkeypatch.setattr("dicom_node.dispatch.priors.move_series", self.move)
        monkeypatch.setattr("dicom_node.dispatch.priors.find_last_chest_ct", self.find)
        monkeypatch.setattr("dicom_node.dispatch.priors.get_series", self.get)

    def move(self, _peer: object, _settings: object, asked: list[FoundSeries]) -> None:
        self.moved.extend(asked)
        self.on_move()
        if self.fails:
            raise self.failure

    def find(self, *_: object) -> list[FoundSeries]:
        self.asked.append("find")
        return self.found

    def get(self, _peer: object, _settings: object, _found: object, keep: Callable[[str, bytes], None]) -> None:
        self.asked.append("get")
        keep("1.2.4.1.1", b"image")
        if self.fails:
            raise self.failure


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(monkeypatch)


def fetch(record: Engine, folder: Path, *, analyze: bool = True, times: int = 1) -> list[Path]:
    """Fetch priors for study 1.2.5; return the images that are stored for it afterwards."""
    pacs = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    settings = Settings(
        storage={"folder": folder, "refuse_free_gib": 0},
        destinations=[pacs],
        priors={"source": "PACS", "analyze": analyze},
    )
    fetcher = PriorFetcher(record, settings)
    for _ in range(times):
        fetcher.fetch("1.2.5", ANNA, "20240301101112")
    return Files(folder).prior_images("1.2.5")


def test_images_of_a_prior_without_a_report_are_fetched_once(record: Engine, tmp_path: Path, source: Source) -> None:
    assert len(fetch(record, tmp_path, times=2)) == 1
    assert source.asked == ["find", "get"]


def test_no_images_are_fetched_unless_that_is_asked_for(record: Engine, tmp_path: Path, source: Source) -> None:
    assert fetch(record, tmp_path, analyze=False) == []
    assert source.asked == []


def test_no_images_are_fetched_of_a_study_with_a_report(record: Engine, tmp_path: Path, source: Source) -> None:
    answered(record, "1.2.4", ANNA)
    assert fetch(record, tmp_path) == []
    assert source.asked == ["find"]


def receive_report(record: Engine, folder: Path, manufacturer: str) -> None:
    """Receive a report on study 1.2.4, its only object."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Manufacturer = Comprehensive3DSRStorage, "1.2.4.9", manufacturer
    ds.save_as(folder / "report.dcm", enforce_file_format=True)
    report = instance("1.2.4.9", study="1.2.4", series="1.2.4.8", sop_class=Comprehensive3DSRStorage)
    receive(Intake(record), replace(report, path=folder / "report.dcm"))


@pytest.mark.parametrize(("manufacturer", "asked"), [("Hilum", ["find"]), ("Acme", ["find", "get"])])
def test_no_images_are_fetched_of_a_study_with_a_received_report_of_hilums_alone(
    record: Engine, tmp_path: Path, source: Source, manufacturer: str, asked: list[str]
) -> None:
    receive_report(record, tmp_path, manufacturer)
    fetch(record, tmp_path)
    assert source.asked == asked


def test_a_received_report_that_cannot_be_read_is_none(record: Engine, tmp_path: Path, source: Source) -> None:
    receive_report(record, tmp_path, "Hilum")
    (tmp_path / "report.dcm").unlink()
    assert len(fetch(record, tmp_path)) == 1


def test_a_report_is_fetched_though_there_is_one_of_another_maker(
    record: Engine, tmp_path: Path, source: Source
) -> None:
    receive_report(record, tmp_path, "Acme")
    source.reports = [FoundSeries("1.2.4", "1.2.4.7")]
    fetch(record, tmp_path, analyze=False)
    assert source.moved == source.reports


def test_a_report_that_came_before_a_failure_is_a_prior(record: Engine, tmp_path: Path, source: Source) -> None:
    receive(Intake(record), instance("1.2.5.1", study="1.2.5"))
    with record.begin() as connection:
        remember_patient(connection, ["1.2.5"], ANNA)
    source.reports = [FoundSeries("1.2.4", "1.2.4.8"), FoundSeries("1.2.3", "1.2.3.8")]
    source.on_move = lambda: receive_report(record, tmp_path, "Hilum")
    source.fails = True
    fetch(record, tmp_path, analyze=False)
    with reading(record) as connection:
        assert prior_reports(connection, "1.2.5") == (tmp_path / "report.dcm",)


def test_a_report_that_was_received_is_not_fetched_again(record: Engine, tmp_path: Path, source: Source) -> None:
    receive_report(record, tmp_path, "Hilum")
    source.reports = [FoundSeries("1.2.4", "1.2.4.8")]
    fetch(record, tmp_path, analyze=False)
    assert source.moved == []


def test_a_report_of_hilums_own_is_not_fetched(record: Engine, tmp_path: Path, source: Source) -> None:
    answered(record, "1.2.4", ANNA)
    source.reports = [FoundSeries("1.2.4", "1.2.4.8")]
    fetch(record, tmp_path, analyze=False)
    assert source.moved == []


def test_only_the_studies_that_the_pacs_named_are_looked_up(
    sqlite_record: Engine, tmp_path: Path, source: Source
) -> None:
    answered(sqlite_record, "1.2.4", ANNA)
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, values))

    event.listen(sqlite_record, "before_cursor_execute", note)
    source.reports = source.found
    fetch(sqlite_record, tmp_path)
    event.remove(sqlite_record, "before_cursor_execute", note)
    with reading(sqlite_record) as connection:
        plan = [
            str(step.detail)
            for statement, values in asked
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert any("SEARCH instances" in step for step in plan)
    assert [step for step in plan if step.startswith("SCAN")] == []


def test_images_that_come_in_part_are_none_and_the_pacs_is_left_alone(
    record: Engine, tmp_path: Path, source: Source
) -> None:
    source.fails = True
    assert fetch(record, tmp_path, times=2) == []
    assert source.asked == ["find", "get"]


def test_a_pacs_that_cannot_send_the_images_of_one_study_is_asked_for_the_next(
    record: Engine, tmp_path: Path, source: Source
) -> None:
    source.fails, source.failure = True, NotSent("not-got", "it answered 0xa702")
    assert fetch(record, tmp_path, times=2) == []
    assert source.asked == ["find", "get"] * 2


def test_a_pacs_that_failed_is_asked_again_after_five_minutes(
    record: Engine, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.fails = True
    steady = iter([0.0, 0.0, 299.0, 301.0, 1000.0])  # read before each study, and when a request failed
    monkeypatch.setattr("dicom_node.dispatch.priors.time", SimpleNamespace(monotonic=lambda: next(steady)))
    fetch(record, tmp_path, times=3)
    assert source.asked == ["find", "get"] * 2


def test_a_disk_that_fails_leaves_the_study_without_its_prior(
    record: Engine, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Files, "write", fail)
    assert fetch(record, tmp_path) == []


def test_analyzing_priors_needs_somebody_to_ask() -> None:
    with pytest.raises(ValueError, match="analyze needs source"):
        PriorSettings(analyze=True)
