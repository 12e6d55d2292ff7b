"""The checker: compares what senders were told with what the PACS holds."""

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
    """What went wrong, with the studies or objects concerned; the promises are kept if all is empty."""

    lost: tuple[str, ...]
    """Studies of which no single report refers to all acknowledged images."""
    doubled: tuple[str, ...]
    """Studies with two reports on the same images, or with more results of one kind than reports."""
    unanswered: tuple[str, ...]
    """Studies with acknowledged images and without any report."""
    unasked: tuple[str, ...]
    """Studies with results although none of their images was acknowledged, or even sent."""
    changed: tuple[str, ...]
    """Objects that came again under the same SOP Instance UID with other bytes."""
    unchained: tuple[str, ...]
    """Studies of which a later report does not name the one before it as its predecessor."""
    stuck: tuple[str, ...]
    """Studies for which something is still to be done according to the record."""
    missing: tuple[str, ...]
    """Studies with results that the record calls sent, but that never came."""

    @property
    def clean(self) -> bool:
        return not any(vars(self).values())


def judge(sent: Iterable[Study], came: Sequence[Held], record: Engine, destination: str = "PACS") -> Verdict:
    """Return what is wrong with the objects that came to a destination, after all has settled."""
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
    """Whether there are more results of one kind than reports."""
    kinds: dict[str, int] = defaultdict(int)
    for one in held:
        kinds[one.kind] += 1
    return any(count > reports for count in kinds.values())


def is_chain(reports: Sequence[Held]) -> bool:
    """Whether each report but one names another as its predecessor, and no two name the same."""
    named = [uid for report in reports for uid in report.predecessors()]
    return len(named) == len(set(named)) == len(reports) - 1 and set(named) <= {r.sop_instance_uid for r in reports}


def called_sent(record: Engine, study_instance_uid: str, destination: str) -> set[str]:
    """Return the SOP Instance UIDs of a study's results that a destination took, according to the record."""
    taken = deliveries.c.destination == destination, deliveries.c.state == DeliveryState.SENT
    theirs = results_of(study_instance_uid)
    query = select(deliveries.c.sop_instance_uid).where(*taken, deliveries.c.sop_instance_uid.in_(theirs))
    with reading(record) as connection:
        return set(connection.scalars(query))


def stuck_studies(record: Engine) -> list[str]:
    """Return the studies that still wait for an answer, and "deliveries" if any delivery is not sent."""
    receiving = select(studies.c.study_instance_uid).where(studies.c.state == StudyState.RECEIVING)
    working = select(jobs.c.study_instance_uid).where(jobs.c.state.not_in(FINAL_JOB_STATES))
    with reading(record) as connection:
        waiting = connection.scalar(
            select(func.count()).select_from(deliveries).where(deliveries.c.state != DeliveryState.SENT)
        )
        found = {*connection.scalars(receiving), *connection.scalars(working)}
    return [*sorted(found), *(["deliveries"] if waiting else [])]
