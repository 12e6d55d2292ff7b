"""Priors: known by Patient ID and issuer, from the record and from the PACS."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import Comprehensive3DSRStorage
from sqlalchemy import Engine

from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.priors import Patient, prior_reports, remember_patient
from dicom_node.receive.intake import Intake
from dicom_node.record.database import reading
from dicom_node.settings import JobSettings
from dicom_node.study import JobState, Result
from tests.dicom_node.recording import instance, make_job, receive

ANNA = Patient("4711", "HOSPITAL")
REPORT = Path("/storage/report.dcm")


def answered(record: Engine, study: str, patient: Patient, state: JobState = JobState.DONE) -> None:
    """Record a study of a patient with a report."""
    queue = Jobs(record, JobSettings())
    job = queue.claim(make_job(record, study=study))
    assert job is not None
    queue.finish(job, state, [Result(f"{study}.9", Comprehensive3DSRStorage, "1.2", "report", REPORT)], [])
    known(record, study, patient)


def known(record: Engine, study: str, patient: Patient) -> None:
    with record.begin() as connection:
        remember_patient(connection, [study], patient)


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
