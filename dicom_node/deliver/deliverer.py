"""Sending the deliveries of the outbox to every destination."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby

from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.beside import Beside, take_turns
from dicom_node.deliver.breaker import Breaker
from dicom_node.deliver.commitment import STORAGE_COMMITMENT, Commitments, ask
from dicom_node.deliver.destination import Store, open_destination
from dicom_node.deliver.order import TRIES_AHEAD
from dicom_node.deliver.outbox import Outbox
from dicom_node.deliver.outgoing import ObjectGone, ObjectUnreadable, Outcome, Outgoing
from dicom_node.deliver.scu import not_committing
from dicom_node.errors import HungUp, PassingFailure
from dicom_node.files import Files
from dicom_node.log import get_logger
from dicom_node.request.association import open_association
from dicom_node.security.audit import AuditTrail, Participant, Transfer, patient_id_of
from dicom_node.settings import AnyDestination, Destination, Settings, WebDestination
from dicom_node.statuses import SUCCESS
from dicom_node.study import Delivery

TURN_SECONDS = 1.0

log = get_logger()


class Deliverer:
    """Empties the outbox. Several may run at once."""

    def __init__(self, outbox: Outbox, settings: Settings, trail: AuditTrail, commitments: Commitments) -> None:
        self._outbox = outbox
        self._commitments = commitments
        self._settings = settings
        self._trail = trail
        self._breakers = {d.name: Breaker(settings.delivery.first_retry_seconds) for d in settings.destinations}

    def run(self, stop: threading.Event) -> None:
        """Serve each destination on its own thread until told to stop, so that a slow one delays no other."""
        serving = [Beside(d.name, partial(self._serve, d, stop), stop) for d in self._settings.destinations]
        stop.wait()
        for one in serving:
            one.join()
            one.check()

    def _serve(self, destination: AnyDestination, stop: threading.Event) -> None:
        take_turns(
            lambda: self.turn(destination, stop),
            stop,
            TURN_SECONDS,
            "delivery_failed",
            begin=lambda: self._outbox.hasten(destination.name),  # it may have been repaired since the last attempt
        )

    def turn(self, destination: AnyDestination, stop: threading.Event) -> None:
        """Send the due deliveries to one destination; then request storage commitment, if the settings ask for it."""
        self.deliver(destination, stop)
        if isinstance(destination, WebDestination):
            return  # storage commitment needs an association
        if destination.storage_commitment and not stop.is_set():
            self._ask_for_commitment(destination)

    def _ask_for_commitment(self, destination: Destination) -> None:
        request = self._commitments.begin(destination.name)
        if request is None:
            return
        contexts = [(str(STORAGE_COMMITMENT), str(ImplicitVRLittleEndian))]
        timeout_seconds = self._settings.delivery.network_timeout_seconds
        told = {"destination": destination.name, "instances": len(request.references)}
        try:
            with open_association(destination, self._settings, contexts, timeout_seconds) as association:
                if not association.is_established:
                    raise not_committing(destination)
                status = ask(association, request, self._commitments)
        except PassingFailure as error:
            log.warning("commitment_not_asked", **told, code=error.code, reason=error.message)
            return
        if status == SUCCESS:
            log.info("commitment_asked", **told)
        else:
            log.warning("commitment_refused", **told, status=status)

    def deliver(self, destination: AnyDestination, stop: threading.Event) -> None:
        """Send the due deliveries to one destination, over one connection for each job.

        The remaining ones are released when told to stop, or if the destination cannot be reached several times in a
        row.
        """
        if self._breakers[destination.name].is_open(time.monotonic()):
            return
        token, due = self._outbox.claim(destination.name)
        if due:
            with self._outbox.holding(token):
                self._send_all(token, destination, due, stop)

    def _send_all(
        self, token: str, destination: AnyDestination, due: Sequence[Delivery], stop: threading.Event
    ) -> None:
        breaker = self._breakers[destination.name]
        for _, group in groupby(due, key=lambda delivery: delivery.job_id):
            remaining = list(group)
            while remaining and not stop.is_set() and not breaker.is_open(time.monotonic()):
                remaining = self._send_job(token, destination, remaining)
            if remaining:
                self._outbox.release(token, remaining)

    def _send_job(self, token: str, destination: AnyDestination, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Send the results of a job over one connection; return those that are still to be sent, over another.

        There are some after an object on which the destination hangs up each time. Hanging up says nothing about other
        jobs, so it does not count as a failure of the destination.
        """
        started, remaining, taken = time.monotonic(), list(deliveries), list[Delivery]()
        breaker, left = self._breakers[destination.name], list[Delivery]()
        try:
            with (
                open_destination(destination, self._settings, [outgoing(d) for d in deliveries]) as store,
                audited(self._trail, destination, deliveries, taken),
            ):
                while remaining:
                    if self._send_one(token, store, remaining[0]):
                        taken.append(remaining[0])
                    remaining.pop(0)
            if breaker.succeeded():
                self._outbox.hasten(destination.name)
        except PassingFailure as error:
            if not isinstance(error, HungUp):
                breaker.failed(time.monotonic())
            elif remaining[0].attempts >= TRIES_AHEAD:
                remaining, left = remaining[:1], remaining[1:]
            due_at = self._outbox.next_attempt(remaining)
            for delivery in remaining:
                self._outbox.failed(token, delivery, None, error.message, due_at)
            log.warning(
                "delivery_failed",
                destination=destination.name,
                code=error.code,
                reason=error.message,
                instances=len(remaining),
            )
        log.info(
            "delivery_ended",
            destination=destination.name,
            job_id=deliveries[0].job_id,
            study_instance_uid=deliveries[0].study_instance_uid,
            instances=len(deliveries) - len(remaining) - len(left),
            seconds=round(time.monotonic() - started, 3),
        )
        return left

    def _send_one(self, token: str, store: Store, delivery: Delivery) -> bool:
        """Send an instance and record the destination's answer; return whether it took the instance."""
        try:
            answer = store(outgoing(delivery))
        except ObjectUnreadable as error:
            log.warning("result_unreadable", sop_instance_uid=delivery.result.sop_instance_uid, reason=error.message)
            is_gone = isinstance(error, ObjectGone) and Files(self._settings.storage.folder).has_results()
            settle = self._outbox.rejected if is_gone else self._outbox.failed
            settle(token, delivery, None, error.message)
            return False
        if answer.outcome is Outcome.TAKEN:
            self._outbox.sent(token, delivery, answer.status)
        elif answer.outcome is Outcome.PASSING:
            self._outbox.failed(token, delivery, answer.status, answer.message)
        else:
            self._outbox.rejected(token, delivery, answer.status, answer.message)
        return answer.outcome is Outcome.TAKEN


@contextmanager
def audited(
    trail: AuditTrail, destination: AnyDestination, deliveries: Sequence[Delivery], taken: Sequence[Delivery]
) -> Iterator[None]:
    """Write to the audit trail what is about to be sent, and after the ``with`` what was taken and what was not."""
    if not trail.is_kept:
        yield
        return
    study, patient = deliveries[0].study_instance_uid, patient_id_of(deliveries[0].result.path)
    user_id = destination.url if isinstance(destination, WebDestination) else destination.ae_title
    source, receiver = trail.hilum(is_requestor=True), Participant(user_id, destination.host)

    def transfer(of: Sequence[Delivery]) -> Transfer:
        return Transfer(study, patient, Counter(d.result.sop_class_uid for d in of))

    trail.beginning(source, receiver, transfer(deliveries))
    try:
        yield
    finally:
        if taken:
            trail.sent(source, receiver, transfer(taken))
        if missing := [delivery for delivery in deliveries if delivery not in taken]:
            why = f"{len(missing)} of {len(deliveries)} instances were not taken"
            trail.sent(source, receiver, transfer(missing), why=why)


def outgoing(delivery: Delivery) -> Outgoing:
    """Return the object that a delivery sends."""
    return Outgoing(delivery.result.path, delivery.result.sop_class_uid, delivery.result.transfer_syntax_uid)
