"""The checker: what senders were told, compared with what the PACS holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from dicom_node.deliver.outbox import results_of
from dicom_node.record.database import reading
from dicom_node.record.schema import deliveries, jobs, studies
from dicom_node.study import FINAL_JOB_STATES, DeliveryState, StudyState
from tests.faults.pacs import Held
from tests.faults.senders import Study


@dataclass(frozen=True)
class Verdict:
    """Studies by what went wrong with them; all empty is the promise kept."""

    lost: tuple[str, ...]
    """An image that was acknowledged is named in no report."""
    doubled: tuple[str, ...]
    """Two reports, or two results of one kind, stand for the same images."""
    unanswered: tuple[str, ...]
    """Images were acknowledged, and there is no report at all."""
    unasked: tuple[str, ...]
    """Results for a study that nobody was told is safe, or reports that no study asked for."""
    changed: tuple[str, ...]
    """An object came again under the same UID with other bytes."""
    unchained: tuple[str, ...]
    """A later report does not name the one before it."""
    stuck: tuple[str, ...]
    """The record still waits for something."""
    missing: tuple[str, ...]
    """The record calls a result sent that never came."""

    @property
    def clean(self) -> bool:
        return not any(vars(self).values())


def judge(sent: Iterable[Study], came: Sequence[Held], record: Engine, destination: str = "PACS") -> Verdict:
    """Return what is wrong with what a destination holds after all has settled."""
    told = {study.study_instance_uid: study.acknowledged for study in sent}
    by_study: dict[str, dict[str, Held]] = defaultdict(dict)
    hashes: dict[str, set[str]] = defaultdict(set)
    for held in came:
        by_study[held.study_instance_uid][held.sop_instance_uid] = held
        hashes[held.sop_instance_uid].add(held.sha256)
    lost, doubled, unanswered, unchained = [], [], [], []
    for uid, acknowledged in told.items():
        reports = [held for held in by_study[uid].values() if held.modality == "SR"]
        covered = [report.references() & acknowledged for report in reports]
        if acknowledged and not reports:
            unanswered.append(uid)
        elif acknowledged and max(map(len, covered)) < len(acknowledged):
            lost.append(uid)
        if len(set(covered)) < len(covered) or has_doubled_results(by_study[uid].values(), len(reports)):
            doubled.append(uid)
        if len(reports) > 1 and not is_chain(reports):
            unchained.append(uid)
    return Verdict(
        lost=tuple(lost),
        doubled=tuple(doubled),
        unanswered=tuple(unanswered),
        unasked=tuple(uid for uid in by_study if not told.get(uid)),
        changed=tuple(uid for uid, found in hashes.items() if len(found) > 1),
        unchained=tuple(unchained),
        stuck=tuple(stuck_studies(record)),
        missing=tuple(uid for uid in told if called_sent(record, uid, destination) - by_study[uid].keys()),
    )


def has_doubled_results(held: Iterable[Held], reports: int) -> bool:
    """Whether one kind of result stands there more often than reports do."""
    kinds: dict[str, int] = defaultdict(int)
    for one in held:
        kinds[one.kind] += 1
    return any(count > reports for count in kinds.values())


def is_chain(reports: Sequence[Held]) -> bool:
    """Whether each report but one names another as its predecessor, and no two the same."""
    named = [uid for report in reports for uid in report.predecessors()]
    return len(named) == len(set(named)) == len(reports) - 1 and set(named) <= {r.sop_instance_uid for r in reports}


def called_sent(record: Engine, study_instance_uid: str, destination: str) -> set[str]:
    """Return the SOP Instance UIDs of a study's results that the record says a destination took."""
    taken = deliveries.c.destination == destination, deliveries.c.state == DeliveryState.SENT
    theirs = results_of(study_instance_uid)
    query = select(deliveries.c.sop_instance_uid).where(*taken, deliveries.c.sop_instance_uid.in_(theirs))
    with reading(record) as connection:
        return set(connection.scalars(query))


def stuck_studies(record: Engine) -> list[str]:
    """Return the studies for which something is still to be done."""
    receiving = select(studies.c.study_instance_uid).where(studies.c.state == StudyState.RECEIVING)
    working = select(jobs.c.study_instance_uid).where(jobs.c.state.not_in(FINAL_JOB_STATES))
    with reading(record) as connection:
        waiting = connection.scalar(
            select(func.count()).select_from(deliveries).where(deliveries.c.state != DeliveryState.SENT)
        )
        found = {*connection.scalars(receiving), *connection.scalars(working)}
    return [*sorted(found), *(["deliveries"] if waiting else [])]
