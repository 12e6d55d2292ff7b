"""C-STORE and C-ECHO to a PACS, as an SCU."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.deliver.checkpoint import keep_answers
from dicom_node.deliver.outgoing import SOP_CLASS_NOT_SUPPORTED, ObjectUnreadable, Outgoing, load
from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.security.tls import client_context
from dicom_node.settings import Destination, Settings
from dicom_node.timers import use_steady_timers

CONNECTING_SECONDS = 10.0
MAXIMUM_CONTEXTS = 128
"""PS3.8 9.3.2.2: presentation context IDs are odd numbers up to 255."""


@contextmanager
def open_association(
    peer: Destination,
    settings: Settings,
    contexts: Iterable[tuple[str, str]],
    timeout_seconds: float,
    *,
    taken: Iterable[tuple[str, str]] = (),
    on_store: Callable[[evt.Event], int] | None = None,
) -> Iterator[Association]:
    """Associate with a peer for the time of a ``with``.

    Parameters
    ----------
    contexts : iterable of (str, str)
        A SOP class and a transfer syntax for each presentation context.
    timeout_seconds : float
        How long the peer may be silent; for connecting it has at most 10 s.
    taken : iterable of (str, str)
        The same of what the peer may send over this association, in answer to C-GET (PS3.4 C.4.3).
    on_store : callable, optional
        Takes it and returns the status.

    Raises
    ------
    PassingFailure
        The peer cannot be reached or rejects the association, or Hilum's certificate cannot be read.
    """
    try:
        tls = (client_context(settings.tls), peer.host) if peer.tls else None
    except SettingsError as error:  # its files were good when the process began, and may be so again
        raise PassingFailure(error.code, error.message) from error
    use_steady_timers()
    ae = AE(ae_title=settings.node.ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_seconds
    ae.connection_timeout = min(timeout_seconds, CONNECTING_SECONDS)
    expected = sorted(set(taken))
    for sop_class_uid, transfer_syntax_uid in [*sorted(set(contexts)), *expected]:
        ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, bound_waiting)]
    if on_store:
        handlers.append((evt.EVT_C_STORE, on_store))
    roles = [build_role(sop_class_uid, scp_role=True) for sop_class_uid in sorted({c for c, _ in expected})]
    try:
        association = ae.associate(
            peer.host,
            peer.port,
            ae_title=peer.ae_title,
            max_pdu=0,
            tls_args=tls,
            ext_neg=roles,  # type: ignore[arg-type]  # it asks for a list of the union, not of one of its types
            evt_handlers=handlers,
        )
    except (socket.gaierror, UnicodeError) as error:
        raise unreachable(peer, f"has no address: {peer.host} is not known here; check host") from error
    keep_answers(association)
    # A peer that took none of the contexts is there: `send` tells each object that its class is not supported.
    if not association.is_established and not association.rejected_contexts:
        answer = association.acceptor.primitive
        if association.is_rejected and answer:
            raise unreachable(peer, f"rejected the association of {settings.node.ae_title}: {answer.reason_str}")
        raise unreachable(peer, "cannot be reached; check host, port, firewall and TLS")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def unreachable(peer: Destination, said: str) -> PassingFailure:
    """Return what is raised where a peer lets nobody in."""
    return PassingFailure("peer-unreachable", f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port}) {said}")


def bound_waiting(event: evt.Event) -> None:
    """Have a peer that stops reading, or stalls in the middle of a PDU, hold its thread no longer than is allowed."""
    transport = event.assoc.dul.socket
    if transport and transport.socket:
        transport.socket.settimeout(event.assoc.network_timeout)


def send(association: Association, item: Outgoing) -> int:
    """Send an object; return the status that the peer answered.

    Raises
    ------
    ObjectUnreadable
        The file is gone or damaged, or cannot be sent as it is: without a UID, or unlike what its header says.
    PassingFailure
        The association ended before an answer came.
    """
    if not any(
        c.abstract_syntax == item.sop_class_uid and item.transfer_syntax_uid in c.transfer_syntax
        for c in association.accepted_contexts
    ):
        return SOP_CLASS_NOT_SUPPORTED
    ds = load(item)
    try:
        answer = association.send_c_store(ds)
    except (AttributeError, TypeError, ValueError) as error:  # raised before anything is sent
        raise ObjectUnreadable("object-unreadable", f"it cannot be sent as it is ({type(error).__name__})") from error
    except RuntimeError:  # it is not established any more
        answer = Dataset()
    if "Status" not in answer:
        raise PassingFailure("association-lost", "the association ended before the PACS answered")
    return int(answer.Status)


def batches(objects: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield the objects in their order, split where an association could name no further context."""
    batch: list[Outgoing] = []
    contexts: set[tuple[str, str]] = set()
    for item in objects:
        if item.context not in contexts and len(contexts) == MAXIMUM_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts.add(item.context)
    if batch:
        yield batch


def echo(peer: Destination, settings: Settings) -> None:
    """Verify that a peer answers C-ECHO.

    Raises
    ------
    PassingFailure
        It does not.
    """
    contexts = [(str(Verification), str(ImplicitVRLittleEndian))]
    with open_association(peer, settings, contexts, settings.delivery.network_timeout_seconds) as association:
        if not association.is_established or association.send_c_echo().get("Status") != 0x0000:
            raise PassingFailure("echo-failed", f"{peer.name} is there and does not answer C-ECHO")
