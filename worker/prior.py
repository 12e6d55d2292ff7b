"""An earlier study that nobody analysed: measured in the same way as the new one, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom_node.errors import NotForHilum
from worker.pipeline import Method, Progress, analyze
from worker.reports.history import Prior, measured_now, patient_of, taken_at
from worker.reports.source import read_source


def measure_prior(paths: Sequence[Path], method: Method, progress: Progress) -> Prior:
    """Measure a series of an earlier study; nothing is written of it.

    Raises
    ------
    NotAnalysable, NotForHilum
        As `analyze`.
    """
    volume, findings = analyze(paths, method, progress)
    return measured_now(volume, findings, read_source(paths))


def require_earlier(before: Sequence[Path], now: Sequence[Path]) -> None:
    """Refuse what is no earlier study of the same patient, before anything is measured.

    Raises
    ------
    NotForHilum
    """
    earlier, this = (read_source(paths[:1]).identity for paths in (before, now))
    if patient_of(earlier) != patient_of(this) or not this.PatientID:
        raise NotForHilum(
            "another-patient",
            "expected a prior of the same patient, by Patient ID and Issuer of Patient ID, got another's or nobody's",
        )
    then, today = taken_at(earlier), taken_at(this)
    if then is None or today is None or then >= today:
        raise NotForHilum("not-earlier", "expected a prior taken before the study, by Study Date and Time of both")
