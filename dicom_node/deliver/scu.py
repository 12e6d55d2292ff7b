"""From the outbox to the PACS: C-STORE and C-ECHO, as an SCU."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from sqlalchemy.exc import DBAPIError

from dicom_node.beside import Beside
from dicom_node.deliver.breaker import Breaker
from dicom_node.deliver.commitment import STORAGE_COMMITMENT, Commitments, ask
from dicom_node.deliver.outbox import Outbox
from dicom_node.errors import PassingFailure
from dicom_node.headers import UNREADABLE
from dicom_node.log import get_logger
from dicom_node.security.audit import AuditTrail, Participant, Transfer, patient_id_of
from dicom_node.security.tls import client_context
from dicom_node.settings import Destination, Settings
from dicom_node.study import Delivery

TURN_SECONDS = 1.0
MAXIMUM_CONTEXTS = 128
"""PS3.8 9.3.2.2: presentation context IDs are odd numbers up to 255."""

log = get_logger()


@dataclass(frozen=True)
class Outgoing:
    """An object to send."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


class ObjectUnreadable(PassingFailure):
    """An object cannot be read from the disk; the association can go on with others."""


class Deliverer:
    """Empties the outbox. Several may run at once."""

    def __init__(
        self,
        outbox: Outbox,
        settings: Settings,
        trail: AuditTrail | None = None,
        commitments: Commitments | None = None,
    ) -> None:
        self._outbox = outbox
        self._commitments = commitments
        self._settings = settings
        self._trail = trail or AuditTrail(settings)
        self._breakers = {d.name: Breaker(settings.delivery.first_retry_seconds) for d in settings.destinations}

    def run(self, stop: threading.Event) -> None:
        """Serve each destination until told to stop, on a thread of its own: one that is slow holds up no other."""
        serving = [Beside(d.name, partial(self._serve, d, stop), stop) for d in self._settings.destinations]
        stop.wait()
        for one in serving:
            one.join()
            one.check()

    def _serve(self, destination: Destination, stop: threading.Event) -> None:
        while not stop.wait(TURN_SECONDS):
            try:
                self.turn(destination, stop)
            except DBAPIError as error:
                log.warning("delivery_failed", code="database", error=type(error.orig).__name__)

    def turn(self, destination: Destination, stop: threading.Event) -> None:
        """Send what is due to one destination; then ask it to commit to what it took, where that is wanted."""
        self.deliver(destination, stop)
        if destination.storage_commitment and self._commitments and not stop.is_set():
            self._ask_for_commitment(destination, self._commitments)

    def _ask_for_commitment(self, destination: Destination, commitments: Commitments) -> None:
        request = commitments.begin(destination.name)
        if request is None:
            return
        service = Outgoing(Path(), STORAGE_COMMITMENT, ImplicitVRLittleEndian)
        try:
            with open_association(destination, self._settings, [service]) as association:
                status = ask(association, request, commitments) if association.is_established else None
        except PassingFailure as error:
            log.warning("commitment_not_asked", destination=destination.name, code=error.code, reason=error.message)
            return
        log.info("commitment_asked", destination=destination.name, status=status, instances=len(request.references))

    def deliver(self, destination: Destination, stop: threading.Event) -> None:
        """Send what is due to one destination, an association a study.

        The rest is given back when told to stop, and when the destination does not answer several times in a row.
        """
        if self._breakers[destination.name].is_open(time.monotonic()):
            return
        token, due = self._outbox.claim(destination.name)
        if due:
            with self._outbox.holding(token):
                self._send_all(token, destination, due, stop)

    def _send_all(self, token: str, destination: Destination, due: Sequence[Delivery], stop: threading.Event) -> None:
        breaker = self._breakers[destination.name]
        for _, group in groupby(due, key=lambda delivery: delivery.job_id):
            if stop.is_set() or breaker.is_open(time.monotonic()):
                self._outbox.release(token, list(group))
            elif not self._send_job(token, destination, list(group)):
                breaker.failed(time.monotonic())
            elif breaker.succeeded():
                self._outbox.hasten(destination.name)

    def _send_job(self, token: str, destination: Destination, deliveries: Sequence[Delivery]) -> bool:
        """Send the results of a job; return whether the destination answered until the end."""
        started, remaining, taken = time.monotonic(), list(deliveries), list[Delivery]()
        try:
            with (
                open_association(destination, self._settings, [outgoing(d) for d in deliveries]) as association,
                audited(self._trail, destination, deliveries, taken),
            ):
                while remaining:
                    if self._send_one(token, association, remaining[0]):
                        taken.append(remaining[0])
                    remaining.pop(0)
        except PassingFailure as error:
            for delivery in remaining:
                self._outbox.failed(token, delivery, None, error.message)
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
            instances=len(deliveries) - len(remaining),
            seconds=round(time.monotonic() - started, 3),
        )
        return not remaining

    def _send_one(self, token: str, association: Association, delivery: Delivery) -> bool:
        """Send an instance and write down what the PACS said of it; return whether it has taken it."""
        try:
            status = send(association, outgoing(delivery))
        except ObjectUnreadable as error:
            log.warning("result_unreadable", sop_instance_uid=delivery.result.sop_instance_uid, reason=error.message)
            self._outbox.failed(token, delivery, None, error.message)
            return False
        if is_success(status):
            self._outbox.sent(token, delivery, status)
        elif is_passing(status):
            self._outbox.failed(token, delivery, status, f"the PACS answered {status:#06x}, out of resources")
        else:
            self._outbox.rejected(token, delivery, status, f"the PACS answered {status:#06x} and will not take it")
        return is_success(status)


@contextmanager
def audited(
    trail: AuditTrail, destination: Destination, deliveries: Sequence[Delivery], taken: Sequence[Delivery]
) -> Iterator[None]:
    """Tell the audit trail what is about to be sent, and then what was taken."""
    if not trail.is_kept:
        yield
        return
    study, patient = deliveries[0].study_instance_uid, patient_id_of(deliveries[0].result.path)
    source, receiver = trail.hilum(is_requestor=True), Participant(destination.ae_title, destination.host)
    trail.beginning(source, receiver, Transfer(study, patient, Counter(d.result.sop_class_uid for d in deliveries)))
    try:
        yield
    finally:
        missing = len(deliveries) - len(taken)
        why = f"{missing} of {len(deliveries)} instances were not taken" if missing else ""
        trail.sent(source, receiver, Transfer(study, patient, Counter(d.result.sop_class_uid for d in taken)), why=why)


class open_association:  # noqa: N801 - used as a function, in a with statement
    """An association with a presentation context for each pair of SOP class and transfer syntax.

    Raises
    ------
    PassingFailure
        The peer cannot be reached or rejects the association.
    """

    def __init__(self, peer: Destination, settings: Settings, objects: Iterable[Outgoing]) -> None:
        self._peer = peer
        self._settings = settings
        self._tls = (client_context(settings.tls), peer.host) if peer.tls else None
        self._contexts = sorted({(o.sop_class_uid, o.transfer_syntax_uid) for o in objects})

    def __enter__(self) -> Association:
        timeout = self._settings.delivery.network_timeout_seconds
        ae = AE(ae_title=self._settings.node.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
        ae.connection_timeout = min(timeout, 10.0)
        for sop_class_uid, transfer_syntax_uid in self._contexts:
            ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
        try:
            self._association = ae.associate(
                self._peer.host, self._peer.port, ae_title=self._peer.ae_title, max_pdu=0, tls_args=self._tls
            )
        except (socket.gaierror, UnicodeError) as error:
            raise self._unreachable(f"has no address: {self._peer.host} is not known here; check host") from error
        # A peer that took none of the contexts is there: `send` tells each object that its class is not supported.
        if not self._association.is_established and not self._association.rejected_contexts:
            raise self._unreachable(self._what_happened())
        return self._association

    def __exit__(self, *_: object) -> None:
        if self._association.is_established:
            self._association.release()

    def _what_happened(self) -> str:
        answer = self._association.acceptor.primitive
        if self._association.is_rejected and answer:
            return f"rejected the association of {self._settings.node.ae_title}: {answer.reason_str}"
        return "cannot be reached; check host, port, firewall and TLS"

    def _unreachable(self, said: str) -> PassingFailure:
        peer = self._peer
        return PassingFailure("peer-unreachable", f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port}) {said}")


def outgoing(delivery: Delivery) -> Outgoing:
    """Return what is to be sent of a delivery."""
    return Outgoing(delivery.result.path, delivery.result.sop_class_uid, delivery.result.transfer_syntax_uid)


def send(association: Association, item: Outgoing) -> int:
    """Send an object; return the status that the peer answered.

    Raises
    ------
    ObjectUnreadable
        The file is gone or damaged.
    PassingFailure
        The association ended before an answer came.
    """
    if not any(
        c.abstract_syntax == item.sop_class_uid and item.transfer_syntax_uid in c.transfer_syntax
        for c in association.accepted_contexts
    ):
        return SOP_CLASS_NOT_SUPPORTED
    try:
        ds = pydicom.dcmread(item.path)
        whole = ds.SOPClassUID == item.sop_class_uid
    except UNREADABLE as error:
        raise ObjectUnreadable("object-unreadable", f"the file cannot be read ({type(error).__name__})") from error
    if not whole:
        raise ObjectUnreadable("object-unreadable", "the file holds another object than it should")
    try:
        answer = association.send_c_store(ds)
    except RuntimeError:  # it is not established any more
        answer = Dataset()
    if "Status" not in answer:
        raise PassingFailure("association-lost", "the association ended before the PACS answered")
    return int(answer.Status)


SOP_CLASS_NOT_SUPPORTED = 0x0122


def is_success(status: int) -> bool:
    """Success, or a warning with which the peer keeps the instance (PS3.4 table B.2-1)."""
    return status == 0x0000 or status in (0xB000, 0xB006, 0xB007)


def is_passing(status: int) -> bool:
    """Out of resources, or a processing failure (PS3.7 C.5.5): worth trying again."""
    return status & 0xFF00 == 0xA700 or status == 0x0110


def read_outgoing(path: Path) -> Outgoing:
    """Return what is to be sent of a file."""
    ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return Outgoing(path, str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID))


def send_files(
    peer: Destination, settings: Settings, objects: Sequence[Outgoing], on_answer: Callable[[int], None]
) -> None:
    """Send files in their order, telling each status as it comes; over one association if it can name them all."""
    for batch in batches(objects):
        with open_association(peer, settings, batch) as association:
            for item in batch:
                on_answer(send(association, item))


def batches(objects: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield the objects in their order, split where an association could name no further context."""
    batch: list[Outgoing] = []
    contexts: set[tuple[str, str]] = set()
    for item in objects:
        context = (item.sop_class_uid, item.transfer_syntax_uid)
        if context not in contexts and len(contexts) == MAXIMUM_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts.add(context)
    if batch:
        yield batch


def echo(peer: Destination, settings: Settings) -> None:
    """Verify that a peer answers C-ECHO.

    Raises
    ------
    PassingFailure
        It does not.
    """
    with open_association(peer, settings, [Outgoing(Path(), str(Verification), "1.2.840.10008.1.2")]) as association:
        if not association.is_established or association.send_c_echo().get("Status") != 0x0000:
            raise PassingFailure("echo-failed", f"{peer.name} is there and does not answer C-ECHO")
