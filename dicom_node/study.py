"""The entities of the record and their states, with the transitions that are allowed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class StudyState(StrEnum):
    """RECEIVING -> SELECTED or SET_ASIDE; a new instance leads back to RECEIVING."""

    RECEIVING = "receiving"
    SELECTED = "selected"  # it has a job
    SET_ASIDE = "set_aside"  # nothing to measure; the reason is in the record only


class JobState(StrEnum):
    """The state of a job.

    ::

        QUEUED -> RUNNING -> DONE         results are in the outbox
          ^         |  |---> REFUSED      not analysable: a report that says why is in the outbox
          |         |  |---> SET_ASIDE    not for Hilum: the record says why
          |         |  '---> FAILED       could not even be reported on
          '---------'                     passing failure, or an expired lease

    A job that was tried too often is queued once more as one that only reports why (``given_up``), so that its study is
    answered and the queue goes on.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    SET_ASIDE = "set_aside"
    FAILED = "failed"


FINAL_JOB_STATES = frozenset({JobState.DONE, JobState.REFUSED, JobState.SET_ASIDE, JobState.FAILED})


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Parameters
    ----------
    state : JobState
        One of `FINAL_JOB_STATES`.
    outcome : str
        The report's result in one word, as in ``results.json``; empty if no report was made.
    infected_percent : float or None
        PoIR; None if it is withheld or nothing was measured.
    flags : tuple of str
        The codes of the report's doubts.
    code, message : str
        Why the study was not measured; empty if it was.
    """

    state: JobState
    outcome: str = ""
    infected_percent: float | None = None
    flags: tuple[str, ...] = ()
    code: str = ""
    message: str = ""


class DeliveryState(StrEnum):
    """PENDING -> SENT or REJECTED; a passing failure leaves it PENDING with a later time."""

    PENDING = "pending"
    SENT = "sent"  # the PACS said so, for this instance
    REJECTED = "rejected"  # the PACS will not take it; trying again will not help


class Priority(StrEnum):
    """The priority of a study and its jobs; each has its own queue."""

    STAT = "stat"
    ROUTINE = "routine"


@dataclass(frozen=True)
class Association:
    """An association that brings instances."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str


@dataclass(frozen=True)
class Instance:
    """A stored instance. ``sha256`` covers the data set as it came, without the file meta information."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    size_bytes: int
    path: Path


class Reception(StrEnum):
    """What an instance turned out to be on arrival."""

    NEW = "new"
    IDENTICAL = "identical"  # the same bytes again
    OWN_RESULT = "own_result"  # Hilum's own object, routed back by the PACS
    CONFLICT = "conflict"  # the same SOP Instance UID with other bytes; kept aside, the study is flagged


@dataclass(frozen=True)
class StudyActivity:
    """The values that decide whether a study is whole. Times are seconds since the epoch."""

    study_instance_uid: str
    last_instance_id: int
    """The id of the newest instance, which shows later whether the study has grown."""
    last_instance_at: float
    last_carried_at: float | None
    """When an association that is still open last brought one of its instances."""


@dataclass(frozen=True)
class JobKey:
    """Identifies a job, and the revision of the study that it measures."""

    job_id: str
    study_instance_uid: str
    revision: int


@dataclass(frozen=True)
class Job(JobKey):
    """A claimed job, with everything that a worker needs. ``lease_token`` proves the claim."""

    attempt: int
    lease_token: str
    paths: tuple[Path, ...]
    refusal: tuple[str, str] | None
    """Code and message of a job that only reports why: selection found nothing to measure, or it was given up."""
    earlier: tuple[Path, ...] = ()
    """The objects of the study's newest earlier answer, which this job's answer replaces; without rejection notes."""
    priors: tuple[Path, ...] = ()
    """Reports on other studies of the patient."""


MANUFACTURER = "Hilum"
"""The Manufacturer (0008,0070) of all results, by which Hilum's reports are told from those of others."""
REPORT = "report"
"""The kind of result that tells the figures, or why there are none."""
REJECTION_NOTE = "rejection-note"
"""The kind of result that withdraws the results of an earlier answer."""


@dataclass(frozen=True)
class Result:
    """A DICOM object that answers a study."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Delivery:
    """A result on its way to a destination."""

    delivery_id: int
    job_id: str
    study_instance_uid: str
    destination: str
    attempts: int
    result: Result


@dataclass(frozen=True)
class Notification:
    """A notification to the webhook about a study. Its identifier is the same however often it is sent."""

    notification_id: str
    job_id: str
    study_instance_uid: str
    body: str
    attempts: int = 0
