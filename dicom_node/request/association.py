"""Associations that Hilum requests from a peer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.request.checkpoint import keep_answers
from dicom_node.request.sending import send_without_hurry
from dicom_node.security.tls import client_context
from dicom_node.settings import Destination, Settings
from dicom_node.timers import use_steady_timers

CONNECTING_SECONDS = 10.0


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
    """Associate with a peer for the duration of a ``with``.

    Parameters
    ----------
    contexts : iterable of (str, str)
        The SOP class and transfer syntax of each presentation context to propose, in this order.
    timeout_seconds : float
        How long the peer may be silent; for connecting it has at most 10 s.
    taken : iterable of (str, str)
        The same for the instances that the peer may send over this association, in answer to C-GET (PS3.4 C.4.3).
    on_store : callable, optional
        Handles the C-STORE of such an instance and returns the status.

    Raises
    ------
    PassingFailure
        The peer cannot be reached or rejects the association, or Hilum's certificate cannot be read.
    """
    try:
        tls = (client_context(settings.tls), peer.host) if peer.tls else None
    except SettingsError as error:  # the files were valid when the process began, and may be so again
        raise PassingFailure(error.code, error.message) from error
    use_steady_timers()
    ae = AE(ae_title=settings.node.ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_seconds
    ae.connection_timeout = min(timeout_seconds, CONNECTING_SECONDS)
    expected = sorted(set(taken))
    for sop_class_uid, transfer_syntax_uid in [*dict.fromkeys(contexts), *expected]:
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
            ext_neg=roles,  # type: ignore[arg-type]  # declared as a list of a union; this is a list of one of its types
            evt_handlers=handlers,
        )
    except (socket.gaierror, UnicodeError) as error:
        raise unreachable(peer, f"has no address: {peer.host} is not known here; check host") from error
    keep_answers(association)
    send_without_hurry(association)
    # A peer that rejected all contexts can be reached; the caller sees it by `accepted_contexts`.
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
    """Return the error for a peer that cannot be reached or rejects the association."""
    return PassingFailure("peer-unreachable", f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port}) {said}")


def bound_waiting(event: evt.Event) -> None:
    """Set a timeout on the socket: a peer that stops reading, or stalls within a PDU, must not hold its thread."""
    transport = event.assoc.dul.socket
    if transport and transport.socket:
        transport.socket.settimeout(event.assoc.network_timeout)
