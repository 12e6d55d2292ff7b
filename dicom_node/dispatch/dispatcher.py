"""From a whole study to a queued job; and the sweep that queues lost jobs again."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from pydicom.uid import CTImageStorage
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from dicom_node.beside import Beside, failures_logged, take_turns
from dicom_node.dispatch.completion import Watch, is_whole
from dicom_node.dispatch.doorbell import Doorbell
from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.priors import Patient, PriorFetcher, remember_patient
from dicom_node.dispatch.received import StoredInstance, instances_of, leave_receiving, receiving, say_why_it_waits
from dicom_node.dispatch.selection import Selection, might_be_chosen, select_series
from dicom_node.dispatch.setbacks import Setbacks
from dicom_node.dispatch.transitions import enqueue
from dicom_node.errors import NotForHilum, PassingFailure
from dicom_node.files import Files
from dicom_node.headers import CT_STORAGE, SeriesHeader, read_series, what_is_unread
from dicom_node.log import get_logger
from dicom_node.record.database import now
from dicom_node.record.schema import jobs, studies
from dicom_node.settings import Settings
from dicom_node.study import JobState, Priority, StudyActivity, StudyState

TURN_SECONDS = 1.0
TRIES_TO_READ = 7
"""After so many attempts, over four minutes, a file that cannot be read no longer delays a study that can be measured
without it."""

log = get_logger()


def patient_of(found: Sequence[SeriesHeader], chosen: SeriesHeader | None) -> Patient:
    """Return the patient of a study; a Patient without an ID if its images disagree.

    Only the images of the chosen series are asked, as by the worker; without one all CT images, without these all.
    Images without a Patient ID count for nothing.
    """
    every = [image for series in found for image in series.images]
    images = chosen.images if chosen else [image for image in every if image.sop_class_uid in CT_STORAGE] or every
    patients = {Patient(image.patient_id, image.issuer_of_patient_id) for image in images if image.patient_id}
    return patients.pop() if len(patients) == 1 else Patient("", "")


def most_slices(stored: Sequence[StoredInstance]) -> defaultdict[str, float]:
    """Return the most slices that each series can have: one for each CT image, no limit for multi-frame images."""
    most: defaultdict[str, float] = defaultdict(float)
    for one in stored:
        if one.sop_class_uid in CT_STORAGE:
            most[one.series_instance_uid] += 1 if one.sop_class_uid == CTImageStorage else math.inf
    return most


def is_answered(connection: Connection, study_instance_uid: str) -> bool:
    """Whether a study has been measured, or was refused before retention removed its images."""
    refused = (jobs.c.state == JobState.REFUSED) & studies.c.removed_at.is_not(None)
    answered = jobs.c.study_instance_uid == study_instance_uid, (jobs.c.state == JobState.DONE) | refused
    return connection.scalar(select(jobs.c.job_id).join(studies).where(*answered).limit(1)) is not None


class Dispatcher:
    """Looks once a second for whole studies, lost jobs and jobs to ring for. Several may run at once."""

    def __init__(self, engine: Engine, doorbell: Doorbell, settings: Settings) -> None:
        self._engine = engine
        self._doorbell = doorbell
        self._settings = settings
        self._jobs = Jobs(engine, settings.jobs, settings.notification)
        self._priors = PriorFetcher(engine, settings)
        self._files = Files(settings.storage.folder)
        self._watch = Watch()
        self._setbacks = Setbacks()
        self._unread = Setbacks()  # only for studies with files that cannot be read

    def run(self, stop: threading.Event) -> None:
        """Take turns until told to stop; another thread rings, so that a broker that hangs delays no study."""
        bells = Beside("bells", lambda: take_turns(self.ring, stop, TURN_SECONDS, "dispatch_failed"), stop)
        take_turns(self.settle, stop, TURN_SECONDS, "dispatch_failed")
        bells.check()

    def settle(self) -> None:
        """Dispatch whole studies; queue lost jobs again."""
        node, activities = self._settings.node, receiving(self._engine)
        began = monotonic()
        for activity, ages in zip(activities, self._watch.look(activities, now(), began), strict=True):
            uid = activity.study_instance_uid
            if self._setbacks.is_left_alone(uid, began) or self._unread.is_left_alone(uid, began):
                continue
            if is_whole(ages, node.quiet_seconds, node.association_idle_seconds):
                with failures_logged("dispatch_failed", study_instance_uid=uid), self._setbacks_noted(uid):
                    self.dispatch(activity)  # a failure here does not delay other studies
                    if monotonic() - began > TURN_SECONDS:
                        break  # a PACS was slow with priors; a study that came meanwhile may be more urgent
        if lost := self._jobs.sweep():
            log.warning("jobs_taken_back", instances=lost)

    @contextmanager
    def _setbacks_noted(self, study_instance_uid: str) -> Iterator[None]:
        """Leave a study alone for a while if dispatching it fails."""
        uid = study_instance_uid
        try:
            yield
        except PassingFailure as error:
            if self._storage_works():
                self._unread.broke(uid, monotonic())
            else:
                self._unread.wait(uid, monotonic())
            self._say_why(uid, error.message)
            raise
        except DBAPIError:  # no reason is written down: the record, which would hold it, has just failed
            self._setbacks.broke(uid, monotonic())
            raise
        except Exception as error:  # a defect, or too little memory: one study must not stop all others forever
            log.exception("study_broke", study_instance_uid=uid)
            self._setbacks.broke(uid, monotonic())
            self._say_why(uid, f"a defect of Hilum ({type(error).__name__}); its log says where")
        else:
            self._setbacks.went_well(uid)
            self._unread.went_well(uid)

    def _storage_works(self) -> bool:
        try:
            self._files.require_working()
        except OSError:
            return False
        return True

    def _say_why(self, study_instance_uid: str, reason: str) -> None:
        try:
            say_why_it_waits(self._engine, study_instance_uid, reason)
        except Exception as error:  # with too little memory this may fail too; the log has the reason
            log.warning("reason_not_recorded", study_instance_uid=study_instance_uid, error=type(error).__name__)

    def ring(self) -> None:
        """Ring for the jobs that are due."""
        for job_id, priority in self._jobs.to_ring(self._doorbell.count_unheard):
            self._doorbell.ring(job_id, priority)

    def dispatch(self, activity: StudyActivity) -> None:
        """Select a series of a whole study and record its job, in one transaction with the study's new state."""
        uid = activity.study_instance_uid
        stored = instances_of(self._engine, uid)
        found, selection = self._select(uid, stored)
        chosen = selection.series.series_instance_uid if selection.series else None
        set_aside = isinstance(selection.rejection, NotForHilum)
        reason = selection.rejection.message if selection.rejection else what_is_unread(*found)
        patient = patient_of(found, selection.series)
        if selection.series:
            self._priors.fetch(uid, patient, selection.series.images[0].taken_at)
        with self._engine.begin() as connection:
            # If retention has removed an answered study's images, late images come alone and may not be measurable.
            is_late = selection.rejection is not None and is_answered(connection, uid)
            if is_late:
                set_aside, reason = False, f"the earlier answer stays: {reason}"
            state = StudyState.SET_ASIDE if set_aside else StudyState.SELECTED
            if not leave_receiving(connection, activity, state, reason, selection.reasons, chosen):
                return
            remember_patient(connection, [uid], patient)
            if not set_aside and not is_late:
                inputs = [
                    i for i in stored if i.sop_class_uid in CT_STORAGE and chosen in (None, i.series_instance_uid)
                ]
                called = connection.scalar(select(studies.c.priority).where(studies.c.study_instance_uid == uid))
                urgent = called == Priority.STAT or any(image.urgent for series in found for image in series.images)
                priority = Priority.STAT if urgent else Priority.ROUTINE
                enqueue(connection, uid, priority, inputs, chosen, selection.rejection)
        log.info("study_whole", study_instance_uid=uid, instances=len(stored), outcome=state.value, reason=reason)

    def _select(self, uid: str, stored: Sequence[StoredInstance]) -> tuple[list[SeriesHeader], Selection]:
        """Return the series of a study and the choice among them.

        After `TRIES_TO_READ` attempts, files that stay unreadable are left out, unless they might change the choice. If
        they belong to the chosen series, the worker reports that.

        Raises
        ------
        PassingFailure
            A file cannot be read, and is not left out.
        """
        received_in = {one.path: one.series_instance_uid for one in stored}
        try:
            found = read_series(received_in, received_in)
            return found, select_series(found, self._settings.selection)
        except PassingFailure:
            if self._unread.times(uid) < TRIES_TO_READ:
                raise
            found = read_series(received_in, received_in, may_lack=True)
            selection = select_series(found, self._settings.selection)
            most = most_slices(stored)
            others = (s for s in found if s.unread and s is not selection.series)
            for other in others:
                if might_be_chosen(other, most[other.series_instance_uid], selection.series, self._settings.selection):
                    raise
            return found, selection
