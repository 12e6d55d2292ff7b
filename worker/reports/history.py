"""The patient's earlier studies: read from Hilum's own reports, and compared with the new figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.bounded import read_bounded
from dicom_node.headers import UNREADABLE
from dicom_node.study import MANUFACTURER
from worker.comparison import Comparison, Exam, comparable, compare, is_later, is_order_unknown
from worker.findings import Algorithm, Findings
from worker.reports import codes
from worker.reports.context import time_zone
from worker.reports.identity import clean
from worker.reports.patient import is_same_patient
from worker.reports.reading import figure, groups, has_concept, texts
from worker.reports.source import Source
from worker.volume import Volume

BOTH_LUNGS, TECHNIQUE, CHANGE = "Both lungs", "Technique", "Change since the prior study"
"""Tracking identifiers of measurement groups in the report."""

_WEIGHTS = "weights_sha256"

LONGEST_REPORT_BYTES = 4 * 2**20
"""A report on thousands of images takes less than 1 MiB. A longer one, or one that inflates to more, is not Hilum's:
anyone who may send images may send it, and it could take all memory."""


@dataclass(frozen=True)
class Prior:
    """Another study of the patient, known from its report or measured now from its images.

    Parameters
    ----------
    evidence : tuple of Dataset
        The objects that a new report refers to: the prior's report, or its images if it was measured now and has no
        report.
    """

    exam: Exam
    study_instance_uid: str
    evidence: tuple[Dataset, ...]
    was_measured_now: bool = False


@dataclass(frozen=True)
class Unmeasured:
    """Another study of the patient that should have been measured for the comparison but was not.

    ``study_instance_uid`` is empty if it is unknown.
    """

    taken_at: date | None
    reason: str
    study_instance_uid: str = ""


@dataclass(frozen=True)
class Untimed(Unmeasured):
    """Another study of the patient on the same day; a Study Time is missing, so it is unknown which came first."""


@dataclass(frozen=True)
class Unread(Unmeasured):
    """Another study of the patient whose report, altered or damaged, cannot be read."""


@dataclass(frozen=True)
class History:
    """The current study in the context of the patient's other studies.

    Parameters
    ----------
    curve : tuple of Exam
        The comparable studies, oldest first; the current study is the last.
    prior : Prior or None
        The study that the current one is compared with.
    uids : tuple of str
        SOP Instance UIDs of the evidence of all priors, and date and reason of each unmeasured study. They influence
        the result, so its UIDs are derived from them too.
    unmeasured : tuple of Unmeasured
        Studies that might have been compared with the current one but could not be, including those of unknown order.
    """

    comparison: Comparison | None
    curve: tuple[Exam, ...]
    prior: Prior | None
    uids: tuple[str, ...]
    unmeasured: tuple[Unmeasured, ...] = ()


def history_of(
    volume: Volume,
    findings: Findings,
    identity: Dataset,
    paths: Sequence[Path],
    others: Sequence[Prior | Unmeasured],
) -> History:
    """Compare with the patient's latest earlier study, taken from reports at ``paths`` and from ``others``.

    Only Hilum's own reports on the same patient count; of several on one study, only the newest that no other replaces.
    A report takes precedence over what ``others`` holds on its study: a measurement, or the reason why there is none.
    """
    now = exam_of(volume, findings, identity)
    told = list(_told_by(_reports_on(identity, paths)))
    priors = [prior for prior in told if isinstance(prior, Prior)]
    reported = {prior.study_instance_uid for prior in priors}
    others = [other for other in others if other.study_instance_uid not in reported]
    known = {other.study_instance_uid for other in others}
    unread = [other for other in told if isinstance(other, Unread) and other.study_instance_uid not in known]
    others += [other for other in unread if not is_later(other.taken_at, now.taken_at)]
    priors += [other for other in others if isinstance(other, Prior)]
    unmeasured = (*(other for other in others if isinstance(other, Unmeasured)), *_untimed(now, priors))
    exams = [prior.exam for prior in priors]
    comparison = compare(now, exams)
    compared = next((prior for prior in priors if comparison and prior.exam is comparison.prior), None)
    uids = sorted(str(ds.SOPInstanceUID) for prior in priors for ds in prior.evidence)
    uids += [f"{other.taken_at} {other.reason}" for other in unmeasured]
    return History(comparison, (*comparable(now, exams), now), compared, tuple(uids), unmeasured)


def _told_by(reports: Sequence[Dataset]) -> Iterator[Prior | Unread]:
    """Yield the studies that these reports describe; none for a report without figures."""
    for report in reports:
        try:
            exam = read_exam(report)
        except UNREADABLE:
            yield Unread(taken_at(report), "its report cannot be read", str(report.StudyInstanceUID))
            continue
        if exam:
            yield Prior(exam, str(report.StudyInstanceUID), (report,))


def _untimed(now: Exam, priors: Sequence[Prior]) -> Iterator[Untimed]:
    """Yield the studies of this study's day where a missing time leaves the order unknown."""
    for prior in priors:
        if prior.exam.taken_at is not None and is_order_unknown(prior.exam.taken_at, now.taken_at):
            yield untimed(prior.exam.taken_at, prior.study_instance_uid)


def untimed(taken_at: date, study_instance_uid: str) -> Untimed:
    """Return the note on a study of the same day, where its Study Time or this study's is missing.

    ``taken_at`` is the other study's; if it has a time, the time is missing in this study.
    """
    where = "this study" if isinstance(taken_at, datetime) else "that study"
    reason = f"Study Time is missing in {where}, so it is unknown which of the two came first"
    return Untimed(taken_at, reason, study_instance_uid)


def measured_now(volume: Volume, findings: Findings, source: Source) -> Prior:
    """Return a study that was measured only for the comparison; having no report, it is referred to by its images."""
    exam = exam_of(volume, findings, source.identity)
    return Prior(exam, str(source.first.StudyInstanceUID), source.images, was_measured_now=True)


def exam_of(volume: Volume, findings: Findings, identity: Dataset) -> Exam:
    """Return this study as an ``Exam``, its figures rounded as in a report, because a prior's figures are too."""
    both = findings.measurement("both")
    return Exam(
        taken_at=taken_at(identity),
        algorithm=findings.algorithm,
        slice_spacing_mm=round(volume.geometry.spacing_mm[0], 3),
        kernel=volume.kernel,
        has_contrast_agent=volume.has_contrast_agent,
        lung_volume_ml=round(both.lung_volume_ml, 2),
        infection_volume_ml=round(both.infection_volume_ml, 2),
        infected_percent=None if both.infected_percent is None else round(both.infected_percent, 2),
        slice_thickness_mm=None if volume.slice_thickness_mm is None else round(volume.slice_thickness_mm, 3),
    )


def read_exam(report: Dataset) -> Exam | None:
    """Return the study that one of Hilum's reports describes; None if the report has no figures, as a refusal.

    Raises
    ------
    Exception
        One of `UNREADABLE`: the report was altered or damaged.
    """
    by_name = {texts(group, codes.TRACKING_IDENTIFIER)[0]: group for group in groups(report)}
    if not by_name or has_concept(report, codes.FINDINGS_SUMMARY, codes.NONE_SUCCEEDED):
        return None
    infection, lungs = by_name.get(codes.INFECTION.tracking_id), by_name.get(BOTH_LUNGS)
    technique = by_name.get(TECHNIQUE)
    if infection is None or lungs is None or technique is None:
        raise ValueError("expected groups of infection, lungs and technique, got a report without them")
    infection_ml, lung_ml = figure(infection, codes.VOLUME), figure(lungs, codes.VOLUME)
    spacing_mm = figure(technique, codes.SPACING_BETWEEN_SLICES)
    if infection_ml is None or lung_ml is None or spacing_mm is None:
        return None
    return Exam(
        taken_at=taken_at(report),
        algorithm=_algorithm(technique),
        slice_spacing_mm=spacing_mm,
        kernel=" ".join(texts(technique, codes.RECONSTRUCTION_ALGORITHM)),
        has_contrast_agent=has_concept(technique, codes.CONTRAST_AGENT, codes.YES),
        lung_volume_ml=lung_ml,
        infection_volume_ml=infection_ml,
        infected_percent=figure(infection, codes.INFECTED_PERCENT),
        slice_thickness_mm=figure(technique, codes.SLICE_THICKNESS),
    )


def _reports_on(identity: Dataset, paths: Sequence[Path]) -> list[Dataset]:
    """Return one report on each study of the patient: one that no other replaces, and of several such the newest."""
    reports = [report for path in paths if (report := _read_report(path))]
    replaced = {uid for report in reports for uid in _predecessors(report)}
    reports.sort(key=lambda report: (report.SOPInstanceUID not in replaced, _made_at(report)))
    return list({report.StudyInstanceUID: report for report in reports if is_same_patient(report, identity)}.values())


def _predecessors(report: Dataset) -> Iterator[str]:
    """Yield the SOP Instance UIDs of the documents that a report replaces (PS3.3 C.17.2)."""
    for study in report.get("PredecessorDocumentsSequence") or []:
        for series in study.get("ReferencedSeriesSequence") or []:
            for instance in series.get("ReferencedSOPSequence") or []:
                yield str(instance.get("ReferencedSOPInstanceUID"))


def _read_report(path: Path) -> Dataset | None:
    """Return one of Hilum's reports; None for any other object, or if the file is missing, damaged or too long."""
    try:
        ds = read_bounded(path, LONGEST_REPORT_BYTES)
    except UNREADABLE:
        return None
    return ds if ds.get("Modality") == "SR" and ds.get("Manufacturer") == MANUFACTURER else None


def _made_at(report: Dataset) -> str:
    return f"{report.get('ContentDate', '')}{report.get('ContentTime', '')}"


def taken_at(ds: Dataset) -> date | None:
    """Return Study Date and Time, in the hospital's local time, with the time zone if the header names one.

    The date alone is returned if the time is missing (it is Type 2) or malformed; None if the date is.
    """
    if time := time_of(ds, "Study"):
        return time
    day = str(clean(ds, ["StudyDate"]).get("StudyDate", ""))
    return date.fromisoformat(day) if day else None


def time_of(ds: Dataset, event: str) -> datetime | None:
    """Return date and time of an event, such as Content, with the time zone if named; None if either is unusable."""
    keywords = f"{event}Date", f"{event}Time"
    values = clean(ds, (*keywords, "TimezoneOffsetFromUTC"))
    date, time = (str(values.get(keyword, "")) for keyword in keywords)
    try:
        return datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=time_zone(values)) if date and time else None
    except ValueError:
        return None


def _algorithm(group: Dataset) -> Algorithm:
    parameters = [tuple(text.split("=", 1)) for text in texts(group, codes.ALGORITHM_PARAMETERS)]
    return Algorithm(
        name=" ".join(texts(group, codes.ALGORITHM_NAME)),
        version=" ".join(texts(group, codes.ALGORITHM_VERSION)),
        weights_sha256=next((value for name, value in parameters if name == _WEIGHTS), None),
        settings=tuple((name, value) for name, value in parameters if name != _WEIGHTS),
    )
