"""From the record to the webhook: notifications that are still to be sent, and what became of them."""

from __future__ import annotations

import threading
import time
import uuid

from sqlalchemy import ColumnElement, Engine, exists, or_, select, update

from dicom_node.beside import take_turns
from dicom_node.deliver.breaker import Breaker
from dicom_node.deliver.outbox import is_due, is_free, retry_pause
from dicom_node.deliver.webhook import is_passing, is_success, post, read_key
from dicom_node.errors import PassingFailure
from dicom_node.log import get_logger
from dicom_node.record.database import now, reading
from dicom_node.record.notified import notification_number
from dicom_node.record.schema import jobs, notifications
from dicom_node.settings import Settings
from dicom_node.study import DeliveryState, Notification

TURN_SECONDS = 1.0
LEASE_SECONDS = 300.0
"""After this, a dead sender's notification is free again; no attempt of a live sender takes as long."""

log = get_logger()


class Notifications:
    """Hands out notifications and records the answers; every method changes the record in one transaction."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings.delivery

    def claim(self) -> tuple[str, Notification] | None:
        """Return a lease's token and the notification that has been due longest; None if none is due.

        A notification waits for earlier ones about its study, so that the receiver hears of the last outcome last.
        """
        moment, token = now(), str(uuid.uuid4())
        due = (
            notifications.c.state == DeliveryState.PENDING,
            is_due(notifications.c.due_at, notifications.c.attempts, moment, self._settings),
            is_free(notifications, moment, LEASE_SECONDS),
        )
        longest = (
            select(notifications, jobs.c.study_instance_uid)
            .join(jobs, jobs.c.job_id == notifications.c.job_id)
            .where(*due, ~follows_another())
            .order_by(notifications.c.due_at)
            .limit(1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(longest).one_or_none()
        if row is None:
            return None
        with self._engine.begin() as connection:
            claimed = connection.execute(
                update(notifications)
                .where(notifications.c.notification_id == row.notification_id, *due)
                .values(lease_token=token, lease_until=moment + LEASE_SECONDS)
            )
        if claimed.rowcount == 0:
            return None  # another sender was faster
        return token, Notification(row.notification_id, row.job_id, row.study_instance_uid, row.body, row.attempts)

    def sent(self, token: str, told: Notification, status: int) -> None:
        """Record that the receiver took the notification."""
        self._settle(token, told, state=DeliveryState.SENT, status=status, message="", sent_at=now())

    def rejected(self, token: str, told: Notification, status: int, message: str) -> None:
        """Record a permanent refusal."""
        self._settle(token, told, state=DeliveryState.REJECTED, status=status, message=message)

    def failed(self, token: str, told: Notification, status: int | None, message: str) -> None:
        """Record a passing failure and when to try again, as for deliveries."""
        due_at = now() + retry_pause(self._settings, told.attempts)
        self._settle(token, told, status=status, message=message, due_at=due_at)

    def _settle(self, token: str, told: Notification, **values: object) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                update(notifications)
                .where(notifications.c.notification_id == told.notification_id, notifications.c.lease_token == token)
                .values(attempts=notifications.c.attempts + 1, lease_token=None, lease_until=None, **values)
            )

    def hasten(self) -> None:
        """Make all pending notifications due now: the receiver answers again, or may."""
        with self._engine.begin() as connection:
            connection.execute(
                update(notifications).where(notifications.c.state == DeliveryState.PENDING).values(due_at=now())
            )

    def retry(self, study_instance_uid: str | None) -> int:
        """Make the unsent notifications, pending or rejected, of one or all studies due now; return how many."""
        which = [notifications.c.state != DeliveryState.SENT]
        if study_instance_uid:
            of_study = select(jobs.c.job_id).where(jobs.c.study_instance_uid == study_instance_uid)
            which.append(notifications.c.job_id.in_(of_study))
        with self._engine.begin() as connection:
            return connection.execute(
                update(notifications)
                .where(*which)
                .values(state=DeliveryState.PENDING, attempts=0, due_at=now(), message="")
            ).rowcount


def follows_another() -> ColumnElement[bool]:
    """Whether an earlier notification about the same study is still to be sent."""
    earlier, its_job = notifications.alias(), jobs.alias()
    number, its_number = (notification_number(table.c.notification_id) for table in (notifications, earlier))
    is_earlier_in_job = (its_job.c.job_id == jobs.c.job_id) & (its_number < number)
    return exists().where(
        its_job.c.study_instance_uid == jobs.c.study_instance_uid,
        earlier.c.job_id == its_job.c.job_id,
        # Written as "is PENDING", this could make SQLite read every pending notification for each one that is due.
        earlier.c.state.not_in((DeliveryState.SENT, DeliveryState.REJECTED)),
        or_(its_job.c.revision < jobs.c.revision, is_earlier_in_job),
    )


class Notifier:
    """Sends notifications to the webhook. Several may run at once.

    The receiver may get a notification twice, if its answer was lost or the sender died; it has the same identifier.
    """

    def __init__(self, record: Notifications, settings: Settings) -> None:
        self._record = record
        self._settings = settings.notification
        self._key = read_key(settings.notification.secret)
        self._breaker = Breaker(settings.delivery.first_retry_seconds)

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop."""
        take_turns(
            lambda: self.turn(stop),
            stop,
            TURN_SECONDS,
            "notification_failed",
            begin=self._record.hasten,  # the receiver may have been repaired since the last attempt
        )

    def turn(self, stop: threading.Event) -> None:
        """Send the due notifications one after another, unless the receiver failed several times in a row."""
        while not stop.is_set() and not self._breaker.is_open(time.monotonic()):
            claimed = self._record.claim()
            if claimed is None:
                return
            self._send(*claimed)

    def _send(self, token: str, told: Notification) -> None:
        status, message = None, ""
        try:
            status = post(self._settings, self._key, told)
        except PassingFailure as error:
            message = error.message
        if status is not None and is_success(status):
            self._record.sent(token, told, status)
        elif status is None or is_passing(status):
            self._record.failed(token, told, status, message or f"the receiver answered {status}")
        else:
            why = "redirects are not followed" if status // 100 == 3 else "it will not take it"
            self._record.rejected(token, told, status, f"the receiver answered {status}; {why}")
        if status is None or is_passing(status):
            self._breaker.failed(time.monotonic())
        elif self._breaker.succeeded():
            self._record.hasten()
        log.info(
            "notification_ended",
            study_instance_uid=told.study_instance_uid,
            job_id=told.job_id,
            attempt=told.attempts + 1,
            status=status,
            reason=message,
        )
