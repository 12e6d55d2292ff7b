"""C-STORE and C-ECHO to a PACS, as an SCU."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from dicom_node.deliver.checkpoint import keep_answers
from dicom_node.deliver.outgoing import SOP_CLASS_NOT_SUPPORTED, ObjectUnreadable, Outgoing, load
from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.security.tls import client_context
from dicom_node.settings import Destination, Settings
from dicom_node.timers import use_steady_timers

MAXIMUM_CONTEXTS = 128
"""PS3.8 9.3.2.2: presentation context IDs are odd numbers up to 255."""


class open_association:  # noqa: N801 - used as a function, in a with statement
    """An association with a presentation context for each pair of SOP class and transfer syntax.

    Parameters
    ----------
    taken : iterable of Outgoing
        What the peer may send over the same association, in answer to C-GET (PS3.4 C.4.3).
    on_store : callable, optional
        Takes it and returns the status.

    Raises
    ------
    PassingFailure
        The peer cannot be reached or rejects the association, or Hilum's certificate cannot be read.
    """

    def __init__(
        self,
        peer: Destination,
        settings: Settings,
        objects: Iterable[Outgoing],
        taken: Iterable[Outgoing] = (),
        on_store: Callable[[evt.Event], int] | None = None,
    ) -> None:
        self._peer = peer
        self._settings = settings
        try:
            self._tls = (client_context(settings.tls), peer.host) if peer.tls else None
        except SettingsError as error:  # its files were good when the process began, and may be so again
            raise PassingFailure(error.code, error.message) from error
        expected = {(o.sop_class_uid, o.transfer_syntax_uid) for o in taken}
        self._contexts = [*sorted({(o.sop_class_uid, o.transfer_syntax_uid) for o in objects}), *sorted(expected)]
        self._roles = [build_role(sop_class_uid, scp_role=True) for sop_class_uid in sorted({c for c, _ in expected})]
        self._handlers: list[evt.EventHandlerType] = [(evt.EVT_CONN_OPEN, bound_waiting)]
        if on_store:
            self._handlers.append((evt.EVT_C_STORE, on_store))

    def __enter__(self) -> Association:
        use_steady_timers()
        timeout = self._settings.delivery.network_timeout_seconds
        ae = AE(ae_title=self._settings.node.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
        ae.connection_timeout = min(timeout, 10.0)
        for sop_class_uid, transfer_syntax_uid in self._contexts:
            ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
        try:
            self._association = ae.associate(
                self._peer.host,
                self._peer.port,
                ae_title=self._peer.ae_title,
                max_pdu=0,
                tls_args=self._tls,
                ext_neg=self._roles,  # type: ignore[arg-type]  # it asks for a list of the union, not of one of its types
                evt_handlers=self._handlers,
            )
        except (socket.gaierror, UnicodeError) as error:
            raise self._unreachable(f"has no address: {self._peer.host} is not known here; check host") from error
        keep_answers(self._association)
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
