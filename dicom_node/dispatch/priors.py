"""Priors, other studies of the same patient: reports from the record and the PACS, and images from the PACS.

A patient is identified by Patient ID and its issuer together, never by name. The record holds a digest of the two.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import Comprehensive3DSRStorage
from sqlalchemy import Connection, Engine, Select, select, update

from dicom_node.dispatch.retrieve import (
    FoundSeries,
    NotSent,
    find_last_chest_ct,
    find_reports,
    get_series,
    move_series,
)
from dicom_node.errors import PassingFailure
from dicom_node.files import Files
from dicom_node.headers import read_text
from dicom_node.log import get_logger
from dicom_node.record.database import reading
from dicom_node.record.paths import as_file
from dicom_node.record.schema import instances, jobs, results, studies
from dicom_node.settings import Destination, Settings
from dicom_node.study import MANUFACTURER, REPORT, JobState

PAUSE_SECONDS = 300.0
"""After a failure, the PACS is not asked again for this long: the request delays its study and those behind it."""

log = get_logger()


@dataclass(frozen=True)
class Patient:
    """A patient, identified by Patient ID and the issuer of that ID."""

    patient_id: str
    issuer: str

    @property
    def key(self) -> str | None:
        """The digest by which the record identifies the patient; None without a Patient ID."""
        if not self.patient_id:
            return None
        return hashlib.sha256(json.dumps([self.patient_id, self.issuer]).encode()).hexdigest()


def remember_patient(connection: Connection, study_instance_uids: Sequence[str], patient: Patient) -> None:
    """Record the patient of studies, locking them in the same order as receiving does, to avoid deadlocks."""
    for uid in sorted(study_instance_uids):
        connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(patient_key=patient.key))


def prior_reports(connection: Connection, study_instance_uid: str) -> tuple[Path, ...]:
    """Return the paths of reports on other studies of the patient: Hilum's own, and those received from the PACS.

    The worker has to read them to know which it can use: not every report is Hilum's, and some are of later studies.
    """
    key = select(studies.c.patient_key).where(studies.c.study_instance_uid == study_instance_uid).scalar_subquery()
    others = connection.scalars(
        select(studies.c.study_instance_uid).where(
            studies.c.patient_key == key, studies.c.study_instance_uid != study_instance_uid
        )
    ).all()
    if not others:
        return ()
    # The states are compared in Python: in the query, they would make SQLite read every job that is DONE instead of the
    # few jobs of these studies.
    own = (
        select(jobs.c.study_instance_uid, jobs.c.revision, jobs.c.state, results.c.path)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .where(jobs.c.study_instance_uid.in_(others), results.c.kind == REPORT)
        .order_by(jobs.c.revision)
    )
    # A study's last answer replaces those before it: figures that a refusal replaced are no longer compared with.
    rows = connection.execute(own).all()
    last = {row.study_instance_uid: row.revision for row in rows}
    answers = [row for row in rows if row.revision == last[row.study_instance_uid]]
    paths = {row.path for row in answers if row.state == JobState.DONE}
    paths.update(connection.scalars(received_reports(others)))
    return tuple(as_file(connection, path) for path in sorted(paths))


class PriorFetcher:
    """Has the PACS send Hilum's reports on a patient and, with ``priors.analyze``, images of the last chest CT."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._files = Files(settings.storage.folder, settings.storage.refuse_free_gib * 2**30)
        self._not_before = 0.0

    def fetch(self, study_instance_uid: str, patient: Patient, taken_at: str) -> None:
        """Fetch the priors that the record lacks; if that fails, the study goes on without them.

        Parameters
        ----------
        taken_at : str
            Study Date and Time of the study.
        """
        source = self._settings.priors_source
        if source is None or patient.key is None or time.monotonic() < self._not_before:
            return
        try:
            self._fetch_reports(source, study_instance_uid, patient)
            if self._settings.priors.analyze:
                self._fetch_images(source, study_instance_uid, patient, taken_at)
        except (PassingFailure, OSError) as error:
            if not isinstance(error, NotSent):  # which says nothing about the next study
                self._not_before = time.monotonic() + PAUSE_SECONDS
            code, reason = (
                (error.code, error.message) if isinstance(error, PassingFailure) else ("disk", error.strerror)
            )
            log.warning("priors_not_fetched", study_instance_uid=study_instance_uid, code=code, reason=reason)

    def _fetch_reports(self, source: Destination, study_instance_uid: str, patient: Patient) -> None:
        found = find_reports(source, self._settings, patient.patient_id, patient.issuer)
        lacking = self._lacking(study_instance_uid, found)
        try:
            if lacking:
                move_series(source, self._settings, lacking)
        finally:  # some may have come before a failure
            with self._engine.begin() as connection:
                remember_patient(connection, [report.study_instance_uid for report in lacking], patient)
        log.info("priors_fetched", study_instance_uid=study_instance_uid, instances=len(lacking))

    def _fetch_images(self, source: Destination, study_instance_uid: str, patient: Patient, taken_at: str) -> None:
        """Get the patient's last chest CT before the study, unless there is a report on it."""
        if self._files.prior_images(study_instance_uid):
            return
        found = find_last_chest_ct(
            source, self._settings, patient.patient_id, patient.issuer, taken_at, study_instance_uid
        )
        if not found or self._is_reported({series.study_instance_uid for series in found}):
            return
        with self._files.fetching_prior(study_instance_uid) as keep:
            get_series(source, self._settings, found, keep)
        images = self._files.prior_images(study_instance_uid)
        log.info("prior_images_fetched", study_instance_uid=study_instance_uid, instances=len(images))

    def _lacking(self, study_instance_uid: str, found: Sequence[FoundSeries]) -> list[FoundSeries]:
        """Return the series of reports on other studies that the record has neither made nor received.

        A study may hold SRs of other makers too, so a received report is recognized by its series.
        """
        named = {series.study_instance_uid for series in found}
        received = select(instances.c.series_instance_uid).where(
            instances.c.study_instance_uid.in_(named),
            instances.c.series_instance_uid.in_({series.series_instance_uid for series in found}),
        )
        with reading(self._engine) as connection:
            reported = {study_instance_uid, *connection.scalars(with_own_report(named))}
            known = set(connection.scalars(received))
        return [
            series
            for series in found
            if series.study_instance_uid not in reported and series.series_instance_uid not in known
        ]

    def _is_reported(self, study_instance_uids: Collection[str]) -> bool:
        """Whether the record has a report of Hilum on one of these studies, made here or received."""
        with reading(self._engine) as connection:
            if connection.scalars(with_own_report(study_instance_uids)).first():
                return True
            paths = [as_file(connection, path) for path in connection.scalars(received_reports(study_instance_uids))]
        return any(read_text(path, "Manufacturer") == MANUFACTURER for path in paths)  # as the worker tells them


def with_own_report(study_instance_uids: Collection[str]) -> Select[str]:
    """Return a query for those of the studies on which this record has a report of its own."""
    return (
        select(jobs.c.study_instance_uid)
        .join(results, results.c.job_id == jobs.c.job_id)
        .where(jobs.c.study_instance_uid.in_(study_instance_uids), results.c.kind == REPORT)
    )


def received_reports(study_instance_uids: Collection[str]) -> Select[str]:
    """Return a query for the recorded paths of reports on these studies that came in; not all need be Hilum's."""
    return select(instances.c.path).where(
        instances.c.study_instance_uid.in_(study_instance_uids),
        instances.c.sop_class_uid == Comprehensive3DSRStorage,
        instances.c.conflicts.is_(False),
    )
