"""A peer that sends any bytes: PDUs and messages, well formed or not."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

ABORTED, CLOSED = "aborted", "closed"
ACCEPT, REJECT, DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7
"""Types of PDUs (PS3.8 9.3.1)."""
C_STORE_RQ = 0x0001


def associate_request(
    contexts: Sequence[tuple[str, str]] = ((CTImageStorage, ImplicitVRLittleEndian),), called: str = "HILUM"
) -> bytes:
    """Return an A-ASSOCIATE-RQ PDU; the contexts are numbered 1, 3, ..."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "FUZZ", called
    proposed = [build_context(*context) for context in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    request.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16382, "1.2.3"
    request.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return pdu.encode()


def pdu(kind: int, body: bytes) -> bytes:
    """Return a PDU with its header."""
    return struct.pack(">BxL", kind, len(body)) + body


def fragment(value: bytes, *, command: bool, last: bool, context_id: int = 1) -> bytes:
    """Return a presentation data value item (PS3.8 9.3.5.1)."""
    return struct.pack(">LBB", len(value) + 2, context_id, command | last << 1) + value


def element(number: int, value: bytes) -> bytes:
    """Return an element of the command group."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def command_set(elements: dict[int, bytes]) -> bytes:
    """Return a command set with its group length."""
    body = b"".join(element(number, value) for number, value in sorted(elements.items()))
    return element(0, struct.pack("<L", len(body))) + body


def store_command(
    sop_class: str = CTImageStorage, sop: str | None = "1.2.3.4", *, has_data: bool = True, message_id: int | None = 1
) -> dict[int, bytes]:
    """Return the elements of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    elements = {
        0x0002: sop_class.encode(),
        0x0100: struct.pack("<H", C_STORE_RQ),
        0x0700: struct.pack("<H", 0),
        0x0800: struct.pack("<H", 1 if has_data else 0x0101),
    }
    if message_id is not None:
        elements[0x0110] = struct.pack("<H", message_id)
    if sop is not None:
        elements[0x1000] = sop.encode()
    return elements


def store_message(elements: dict[int, bytes], data: bytes, longest: int = 16000) -> bytes:
    """Return the PDUs of a C-STORE."""
    pdus = [pdu(DATA, fragment(command_set(elements), command=True, last=True))]
    for at in range(0, len(data) or 1, longest):
        last = at + longest >= len(data)
        pdus.append(pdu(DATA, fragment(data[at : at + longest], command=False, last=last)))
    return b"".join(pdus)


class RawPeer:
    """A connection that is closed when its ``with`` block ends."""

    def __init__(self, port: int, patience_seconds: float = 60.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience_seconds)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send as much as the node accepts; it may close the connection meanwhile."""
        with suppress(BrokenPipeError, ConnectionResetError):  # the answer tells whether it did
            self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; (0, b"") once the node has closed the connection.

        Raises
        ------
        TimeoutError
            The node sends nothing within the patience.
        """
        head = self._read(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._read(length)

    def _read(self, count: int) -> bytes:
        read = b""
        try:
            while len(read) < count and (more := self.socket.recv(count - len(read))):
                read += more
        except ConnectionResetError:
            return b""
        return read

    def associate(self, *contexts: tuple[str, str]) -> RawPeer:
        """Associate with these contexts; by default with CT Image Storage in Implicit VR Little Endian."""
        self.send(associate_request(contexts) if contexts else associate_request())
        kind, _ = self.receive()
        assert kind == ACCEPT
        return self

    def status(self) -> int | str:
        """Return the status of the next response, or how the association ended instead."""
        kind, body = self.receive()
        if kind == DATA:
            at = body.index(struct.pack("<HHL", 0, 0x0900, 2))
            return int(struct.unpack_from("<H", body, at + 8)[0])
        assert kind in (ABORT, 0), f"PDU of type {kind}"
        return ABORTED if kind == ABORT else CLOSED

    def store(self, elements: dict[int, bytes], data: bytes) -> int | str:
        """Send a C-STORE request; return the same as `status`."""
        self.send(store_message(elements, data))
        return self.status()
