"""Storage commitment: a PACS promises to keep the instances that it took (PS3.4 annex J).

Hilum asks on an association that it opens. The PACS reports on the same association, or later on one that it opens
itself and the node accepts; both lead to `Commitments.settle`.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from sqlalchemy import Connection, Engine, exists, func, or_, select, update
from sqlalchemy.exc import DBAPIError

from dicom_node.deliver.outbox import retry_pause
from dicom_node.log import get_logger
from dicom_node.record.database import has_come, now, reading
from dicom_node.record.retention import is_kept
from dicom_node.record.schema import deliveries, results
from dicom_node.record.withdrawal import withdrawn_at
from dicom_node.settings import DeliverySettings
from dicom_node.statuses import PROCESSING_FAILURE, SUCCESS
from dicom_node.study import DeliveryState

STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
WELL_KNOWN_INSTANCE = UID("1.2.840.10008.1.20.1.1")
REQUEST_STORAGE_COMMITMENT = 1
"""Action Type ID (PS3.4 J.3.2.1)."""

BATCH = 100
SAME_ASSOCIATION_SECONDS = 3.0
"""How long to wait for the report on the association of the request."""

log = get_logger()


@dataclass(frozen=True)
class Request:
    """A transaction of storage commitment: the instances that a destination is asked to keep."""

    transaction_uid: str
    references: tuple[tuple[str, str], ...]
    """SOP Class UID and SOP Instance UID of each instance."""


class Commitments:
    """Records which instances destinations were asked to keep, and which they promised to keep.

    Every method changes the record in one transaction.
    """

    def __init__(self, engine: Engine, settings: DeliverySettings) -> None:
        self._engine = engine
        self._settings = settings

    def begin(self, destination: str) -> Request | None:
        """Return a request for a destination, or None; if no report comes, later requests ask for the same again.

        Left out are results of removed studies, which could not be sent again if the destination did not have them, and
        results that a rejection note has withdrawn there, which need not be kept.
        """
        time, transaction_uid = now(), f"2.25.{uuid.uuid4().int}"
        pause = self._settings.commitment_retry_seconds
        open_ = (
            deliveries.c.destination == destination,
            deliveries.c.state == DeliveryState.SENT,
            deliveries.c.committed_at.is_(None),
            or_(deliveries.c.commitment_due_at.is_(None), has_come(deliveries.c.commitment_due_at, time, 2 * pause)),
            exists().where(results.c.sop_instance_uid == deliveries.c.sop_instance_uid, is_kept(results.c.job_id)),
            ~withdrawn_at(destination),
        )
        with reading(self._engine) as connection:
            if not connection.scalar(select(func.count()).select_from(deliveries).where(*open_)):
                return None
        with self._engine.begin() as connection:
            ids = select(deliveries.c.delivery_id).where(*open_).order_by(deliveries.c.delivery_id).limit(BATCH)
            connection.execute(
                update(deliveries)
                .where(deliveries.c.delivery_id.in_(connection.scalars(ids).all()), *open_)
                .values(transaction_uid=transaction_uid, commitment_due_at=time + pause)
            )
            rows = connection.execute(
                select(results.c.sop_class_uid, results.c.sop_instance_uid)
                .join(deliveries, deliveries.c.sop_instance_uid == results.c.sop_instance_uid)
                .where(deliveries.c.transaction_uid == transaction_uid)
                .order_by(deliveries.c.delivery_id)
            ).all()
        if not rows:  # another process was faster
            return None
        return Request(transaction_uid, tuple((row.sop_class_uid, row.sop_instance_uid) for row in rows))

    def settle(self, report: Dataset) -> None:
        """Record which instances a destination promised to keep; those it does not keep are sent again.

        Results that a rejection note has withdrawn there meanwhile are not. The report is that of PS3.4 table J.3-2.
        """
        transaction_uid = str(report.get("TransactionUID", ""))
        promised = {str(item.get("ReferencedSOPInstanceUID")) for item in report.get("ReferencedSOPSequence") or []}
        missing = {
            str(item.get("ReferencedSOPInstanceUID")): int(item.get("FailureReason") or 0)
            for item in report.get("FailedSOPSequence") or []
        }
        with self._engine.begin() as connection:
            asked = connection.execute(
                select(deliveries.c.delivery_id, deliveries.c.sop_instance_uid, deliveries.c.attempts)
                .where(deliveries.c.transaction_uid == transaction_uid, deliveries.c.committed_at.is_(None))
                .order_by(deliveries.c.delivery_id)
                .with_for_update()
            ).all()
            for row in asked:
                if row.sop_instance_uid in missing:
                    self._send_again(connection, row.delivery_id, row.attempts, missing[row.sop_instance_uid])
                elif row.sop_instance_uid in promised:
                    its_row = deliveries.c.delivery_id == row.delivery_id
                    connection.execute(update(deliveries).where(its_row).values(committed_at=now()))
        log.info(
            "commitment_reported",
            instances=len(asked),
            outcome="missing" if missing else "kept" if asked else "unknown transaction",
        )

    def _send_again(self, connection: Connection, delivery_id: int, attempts: int, reason: int) -> None:
        connection.execute(
            update(deliveries)
            .where(deliveries.c.delivery_id == delivery_id, ~withdrawn_at(deliveries.c.destination))
            .values(
                state=DeliveryState.PENDING,
                due_at=now() + retry_pause(self._settings, attempts),
                message=f"the PACS took it and does not keep it (failure reason {reason:#06x})",
                transaction_uid=None,
                commitment_due_at=None,
            )
        )

    def on_report(self, event: evt.Event) -> tuple[int, None]:
        """Answer N-EVENT-REPORT."""
        try:
            self.settle(event.event_information)
        except DBAPIError as error:
            log.warning("commitment_not_recorded", error=type(error.orig).__name__)
            return PROCESSING_FAILURE, None
        return SUCCESS, None


def ask(association: Association, request: Request, commitments: Commitments) -> int | None:
    """Ask for commitment, and wait briefly for the report; return the status of N-ACTION, None without an answer."""
    reported = threading.Event()

    def on_report(event: evt.Event) -> tuple[int, None]:
        status = commitments.on_report(event)
        reported.set()
        return status

    association.bind(evt.EVT_N_EVENT_REPORT, on_report)
    try:
        answer, _ = association.send_n_action(
            action_information(request), REQUEST_STORAGE_COMMITMENT, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
        )
    except RuntimeError:  # the association has ended
        return None
    status: int | None = answer.get("Status")
    if status == SUCCESS:
        reported.wait(SAME_ASSOCIATION_SECONDS)
    return status


def action_information(request: Request) -> Dataset:
    """Return the data set of the request (PS3.4 table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = request.transaction_uid
    ds.ReferencedSOPSequence = []
    for sop_class_uid, sop_instance_uid in request.references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        ds.ReferencedSOPSequence.append(item)
    return ds
