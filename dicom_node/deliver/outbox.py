"""The record of deliveries: one row for every result and destination."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Select,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from dicom_node.deliver.order import TRIES_AHEAD, waits_before, waits_for_report
from dicom_node.errors import SettingsError
from dicom_node.log import get_logger
from dicom_node.record.database import has_come, now, reading
from dicom_node.record.paths import as_file
from dicom_node.record.schema import deliveries, jobs, results
from dicom_node.record.withdrawal import withdrawn_at
from dicom_node.settings import DeliverySettings
from dicom_node.study import REJECTION_NOTE, Delivery, DeliveryState, Result

LEASE_SECONDS = 15.0
"""After this, a dead sender's deliveries are free again; a live sender renews its lease, see `Outbox.holding`."""
BATCH = 100
MOST_DOUBLINGS = 16
"""From this many attempts on, `is_due` uses the longest pause."""

log = get_logger()


def longest_pause(settings: DeliverySettings, attempts: int) -> float:
    """Return the longest pause, in seconds, after so many attempts: it doubles up to a ceiling."""
    doublings = min(attempts, 64)  # a float holds no more than 1023
    return min(settings.first_retry_seconds * 2.0**doublings, settings.longest_retry_seconds)


def retry_pause(settings: DeliverySettings, attempts: int) -> float:
    """Return the seconds to wait after so many attempts, with jitter."""
    # Jitter spreads retries; it has no part in security.
    return longest_pause(settings, attempts) * random.uniform(0.5, 1.0)  # noqa: S311


def is_due(
    due_at: ColumnElement[float], attempts: ColumnElement[int], time: float, settings: DeliverySettings
) -> ColumnElement[bool]:
    """Whether the next attempt may be made; a clock that was set back delays it by no more than its longest pause."""
    pauses = {number: longest_pause(settings, number) for number in range(MOST_DOUBLINGS)}
    return has_come(due_at, time, case(pauses, value=attempts, else_=settings.longest_retry_seconds))


def is_free(row: FromClause, time: float, lease_seconds: float = LEASE_SECONDS) -> ColumnElement[bool]:
    """Whether no live sender holds the lease of a delivery or notification."""
    return or_(row.c.lease_until.is_(None), has_come(row.c.lease_until, time, 2 * lease_seconds))


def results_of(study_instance_uid: str) -> Select[str]:
    """Return a query for the SOP Instance UIDs of a study's results."""
    return select(results.c.sop_instance_uid).join(jobs).where(jobs.c.study_instance_uid == study_instance_uid)


def due_again() -> dict[str, object]:
    """Return the values that make a delivery due again at somebody's request; its attempts are not reset."""
    return {"state": DeliveryState.PENDING, "due_at": now(), "message": ""}


def settle(connection: Connection, token: str, delivery: Delivery, **values: object) -> bool:
    """Record the outcome of an attempt; return False if the lease was lost."""
    settled = connection.execute(
        update(deliveries)
        .where(deliveries.c.delivery_id == delivery.delivery_id, deliveries.c.lease_token == token)
        .values(attempts=deliveries.c.attempts + 1, lease_token=None, lease_until=None, **values)
    )
    return settled.rowcount == 1


def claimed(connection: Connection, token: str) -> list[Delivery]:
    """Return the deliveries whose lease has this token, in the order they were created."""
    rows = connection.execute(
        select(deliveries.c.delivery_id, deliveries.c.destination, deliveries.c.attempts)
        .add_columns(results, jobs.c.study_instance_uid)
        .join(results, results.c.sop_instance_uid == deliveries.c.sop_instance_uid)
        .join(jobs, jobs.c.job_id == results.c.job_id)
        .where(deliveries.c.lease_token == token)
        .order_by(deliveries.c.delivery_id)
    )
    return [
        Delivery(
            delivery_id=row.delivery_id,
            job_id=row.job_id,
            study_instance_uid=row.study_instance_uid,
            destination=row.destination,
            attempts=row.attempts,
            result=Result(
                row.sop_instance_uid,
                row.sop_class_uid,
                row.transfer_syntax_uid,
                row.kind,
                as_file(connection, row.path),
            ),
        )
        for row in rows
    ]


class Outbox:
    """Hands out deliveries and records the answers; every method changes the record in one transaction."""

    def __init__(self, engine: Engine, settings: DeliverySettings) -> None:
        self._engine = engine
        self._settings = settings

    def claim(self, destination: str) -> tuple[str, list[Delivery]]:
        """Return a lease's token and the due deliveries to a destination, in the order they were created.

        Segmentations precede the report that refers to them, and an answer to a study precedes newer answers: otherwise
        a newer answer's rejection note could arrive before the objects that it withdraws. A newer answer waits until
        every delivery of the earlier ones was sent, rejected or tried `TRIES_AHEAD` times. Deliveries that were tried
        that often are claimed together with it, due or not, and so tried once more before it by the same sender. A
        rejection note waits until the report of its own answer was sent.
        """
        time, token = now(), str(uuid.uuid4())
        earlier = deliveries.alias()
        free = (
            deliveries.c.destination == destination,
            deliveries.c.state == DeliveryState.PENDING,
            is_free(deliveries, time),
        )
        holds_up = or_(earlier.c.attempts < TRIES_AHEAD, ~is_free(earlier, time))
        due = (
            *free,
            is_due(deliveries.c.due_at, deliveries.c.attempts, time, self._settings),
            ~exists().where(*waits_before(earlier, deliveries), holds_up),
            ~waits_for_report(deliveries),
        )
        in_order = select(deliveries.c.delivery_id).where(*due).order_by(deliveries.c.delivery_id).limit(BATCH)
        with reading(self._engine) as connection:
            if connection.scalar(in_order.order_by(None).limit(1)) is None:
                return token, []
        with self._engine.begin() as connection:
            ids = connection.scalars(in_order).all()
            before = select(earlier.c.delivery_id).where(
                deliveries.c.delivery_id.in_(ids), *waits_before(earlier, deliveries)
            )
            connection.execute(
                update(deliveries)
                .where(deliveries.c.delivery_id.in_({*ids, *connection.scalars(before)}), *free)
                .values(lease_token=token, lease_until=time + LEASE_SECONDS)
            )
            return token, claimed(connection, token)

    @contextmanager
    def holding(self, token: str) -> Iterator[None]:
        """Renew a lease during a ``with``, while the deliveries are being sent, however slow the destination is."""
        done = threading.Event()
        thread = threading.Thread(target=self._renew, args=(token, done), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew(self, token: str, done: threading.Event) -> None:
        while not done.wait(LEASE_SECONDS / 3):
            try:
                with self._engine.begin() as connection:
                    held = deliveries.c.lease_token == token
                    connection.execute(update(deliveries).where(held).values(lease_until=now() + LEASE_SECONDS))
            except DBAPIError as error:
                log.warning("lease_not_renewed", error=type(error.orig).__name__)

    def sent(self, token: str, delivery: Delivery, status: int | None) -> bool:
        """Record that the destination took the instance; ``status`` may be a warning.

        If it is a rejection note, unsent deliveries of the answers that it withdraws are deleted for this destination.
        """
        with self._engine.begin() as connection:
            taken = {"state": DeliveryState.SENT, "status": status, "message": "", "sent_at": now()}
            is_ours = settle(connection, token, delivery, **taken)
            if is_ours and delivery.result.kind == REJECTION_NOTE:
                theirs = (
                    deliveries.c.sop_instance_uid.in_(results_of(delivery.study_instance_uid)),
                    deliveries.c.destination == delivery.destination,
                )
                # A report on storage commitment may be making some of them due again at this moment.
                lock = select(deliveries.c.delivery_id).where(*theirs).order_by(deliveries.c.delivery_id)
                connection.execute(lock.with_for_update())
                unsent = deliveries.c.state != DeliveryState.SENT
                connection.execute(delete(deliveries).where(*theirs, unsent, withdrawn_at(delivery.destination)))
            return is_ours

    def rejected(self, token: str, delivery: Delivery, status: int | None, message: str) -> bool:
        """Record a permanent refusal, or a file that is gone; there may be no DICOM status (HTTP, or no file)."""
        with self._engine.begin() as connection:
            return settle(connection, token, delivery, state=DeliveryState.REJECTED, status=status, message=message)

    def next_attempt(self, failed: Sequence[Delivery]) -> float:
        """Return when to try again deliveries that failed together: exponential backoff with jitter."""
        return now() + retry_pause(self._settings, min(delivery.attempts for delivery in failed))

    def failed(
        self, token: str, delivery: Delivery, status: int | None, message: str, due_at: float | None = None
    ) -> bool:
        """Record a passing failure and when to try again; by default, `next_attempt` of this delivery alone."""
        due_at = due_at or self.next_attempt([delivery])
        with self._engine.begin() as connection:
            return settle(connection, token, delivery, status=status, message=message, due_at=due_at)

    def release(self, token: str, remaining: Sequence[Delivery]) -> None:
        """Release the lease of deliveries that were claimed and not tried."""
        ids = [delivery.delivery_id for delivery in remaining]
        with self._engine.begin() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.delivery_id.in_(ids), deliveries.c.lease_token == token)
                .values(lease_token=None, lease_until=None)
            )

    def hasten(self, destination: str) -> None:
        """Make the pending deliveries without a DICOM status due now: the destination answers again, or may.

        They were not tried yet, or failed without such a status, mostly because the destination did not answer.
        """
        with self._engine.begin() as connection:
            connection.execute(
                update(deliveries)
                .where(
                    deliveries.c.destination == destination,
                    deliveries.c.state == DeliveryState.PENDING,
                    deliveries.c.status.is_(None),
                )
                .values(due_at=now())
            )

    def resend(
        self, study_instance_uid: str | None = None, destination: str | None = None, *, waiting_too: bool = False
    ) -> int:
        """Make rejected deliveries due again, and with ``waiting_too`` pending ones as well; return how many.

        By default, this covers all studies and destinations.
        """
        unsent, refused = deliveries.c.state != DeliveryState.SENT, deliveries.c.state == DeliveryState.REJECTED
        which = [unsent if waiting_too else refused]
        if study_instance_uid:
            which.append(deliveries.c.sop_instance_uid.in_(results_of(study_instance_uid)))
        if destination:
            which.append(deliveries.c.destination == destination)
        with self._engine.begin() as connection:
            return connection.execute(update(deliveries).where(*which).values(due_again())).rowcount

    def stranded(self, destinations: Collection[str]) -> dict[str, int]:
        """Return how many unsent deliveries, pending or rejected, each destination not among these has."""
        elsewhere = deliveries.c.state != DeliveryState.SENT, deliveries.c.destination.not_in(destinations)
        waiting = func.count().label("waiting")
        counted = select(deliveries.c.destination, waiting).where(*elsewhere).group_by(deliveries.c.destination)
        with reading(self._engine) as connection:
            return {row.destination: row.waiting for row in connection.execute(counted)}

    def destinations(self) -> list[str]:
        """Return the names of all destinations that have deliveries, sent or not."""
        with reading(self._engine) as connection:
            return list(connection.scalars(select(deliveries.c.destination).distinct()))

    def redirect(self, destination: str, to: str) -> int:
        """Make the unsent deliveries of one destination due at another; return how many.

        Deliveries are deleted instead if the other destination has one of the same result, or has taken a rejection
        note that withdraws the result.

        Raises
        ------
        SettingsError
            Both names are the same: every delivery would count as present there, and be deleted.
        """
        if destination == to:
            raise SettingsError("same-destination", f"expected two destinations, got {to} twice")
        theirs = deliveries.c.destination == destination, deliveries.c.state != DeliveryState.SENT
        known = deliveries.alias()
        has_it = exists().where(known.c.sop_instance_uid == deliveries.c.sop_instance_uid, known.c.destination == to)
        # Without its lease, a delivery that is just being sent to the old destination is not recorded as sent to the
        # new one.
        moved = due_again() | {"destination": to, "attempts": 0, "lease_token": None, "lease_until": None}
        with self._engine.begin() as connection:
            connection.execute(delete(deliveries).where(*theirs, or_(has_it, withdrawn_at(to))))
            return connection.execute(update(deliveries).where(*theirs).values(moved)).rowcount
