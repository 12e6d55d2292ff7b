"""pynetdicom's association on one thread, without polling and without copies.

pynetdicom 3.0 runs two threads an association, each asleep for a millisecond between looks at its queue or
socket, reads the socket in pieces of 4 KB and copies an image six times before a handler sees it. The classes
here take the place of its own for associations that come in. They keep its state machine, its messages and its
handlers, and change three things: one thread does everything and waits for the socket; a data PDU is read into
one buffer and handed on as a view of it; the fragments of a C-STORE's data set go where the server says as they
come, not into memory.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.access import Doorkeeper, GuardedACSE, Refusal
from dicom_node.headers import UNREADABLE
from dicom_node.log import get_logger

LONGEST_WAIT_SECONDS = 1.0
"""Timers (ARTIM, network idle) are looked at this often when nothing happens."""

DEFERENCE_SECONDS = 0.002
"""How long a process waits for others to accept a connection, for each association it has open."""
TIMEVAL = struct.Struct("ll")

PDU_HEADER = struct.Struct(">BxL")
"""Type and length (PS3.8 9.3.1)."""
PDV_HEADER = struct.Struct(">LB")
"""Length and presentation context ID (PS3.8 9.3.5.1)."""
P_DATA_TF_TYPE = 0x04
LONGEST_OTHER_PDU_BYTES = 2**20
"""An A-ASSOCIATE-RQ names at most 128 presentation contexts."""
LONGEST_COMMAND_BYTES = 2**16
LEAST_PROGRESS_BYTES = 2**14
"""What must come until the idle timer expires, or a whole message, so that nobody holds on with a trickle."""
LAST_COMMAND_FRAGMENT = b"\x03"
"""Control header (PS3.8 E.2)."""
US = struct.Struct("<H")
C_STORE_RSP = 0x8001
NO_DATA_SET = 0x0101
"""Command field and data set type (PS3.7 E.1)."""
SOP_CLASS_NOT_SUPPORTED = 0x0122
CANNOT_UNDERSTAND = 0xC000
"""Statuses of C-STORE (PS3.7 9.1.1.1.9, PS3.4 table B.2-1)."""
ESTABLISHED = "Sta6"
CLOSING = "Sta13"

OpenDataSet = Callable[["PromptAssociation", C_STORE_RQ, str], BytesIO]
"""Returns where the data set of a C-STORE goes; takes the association, the command and the transfer syntax."""

log = get_logger()


class PromptServer(ThreadedAssociationServer):
    """A server of prompt associations."""

    def __init__(
        self,
        ae: ApplicationEntity,
        listener: socket.socket,
        evt_handlers: list[evt.EventHandlerType],
        open_data_set: OpenDataSet,
        doorkeeper: Doorkeeper,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.open_data_set = open_data_set
        self.doorkeeper = doorkeeper
        self._tls = tls
        self._listener = listener
        super().__init__(
            ae,
            listener.getsockname()[:2],
            ae.ae_title,
            ae.supported_contexts,
            evt_handlers=evt_handlers,
            request_handler=PromptRequestHandler,
        )
        ae._servers.append(self)  # as AE.start_server does
        self.contexts = SharedContexts(self.contexts)

    def server_bind(self) -> None:
        """Take the listening socket, which other processes may share, in place of one of our own."""
        cast("socket.socket", self.socket).close()
        self.socket = self._listener
        self.server_address = self._listener.getsockname()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; of the processes that listen, the one with the least to do is the quickest."""
        time.sleep(DEFERENCE_SECONDS * len(self.active_associations))
        peer, address = super().get_request()
        # Who stalls in the middle of a PDU must not hold a thread forever. (settimeout would poll before each read.)
        seconds = int(self.ae.network_timeout or 0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.pack(seconds, 0))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEVAL.pack(seconds, 0))
        if self._tls:  # hands are shaken by the association's thread; here they would keep everyone waiting
            peer = self._tls.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
            peer.settimeout(self.ae.network_timeout)  # OpenSSL would read again and again
        return peer, address

    def verify_request(self, _request: object, _address: object) -> bool:
        """Whether a connection gets a thread."""
        return len(self.active_associations) < self.ae.maximum_associations

    def stop(self, seconds: float) -> None:
        """Stop listening, abort what is open, and wait for that no longer than some seconds."""
        self.shutdown()
        deadline = time.monotonic() + seconds
        open_associations = cast("list[PromptAssociation]", self.active_associations)
        for association in open_associations:
            association.stop()
        for association in open_associations:
            association.join(max(0.0, deadline - time.monotonic()))


class SharedContexts(list[PresentationContext]):
    """The supported presentation contexts, the same for all associations.

    pynetdicom copies them for each one, which takes 50 ms and more; nothing changes them.
    """

    def __deepcopy__(self, _memo: object) -> SharedContexts:
        return self


class PromptRequestHandler(RequestHandler):
    """Makes the associations of a server prompt ones."""

    server: PromptServer

    def _create_association(self) -> Association:
        # pynetdicom names its classes inside its own methods; giving the finished objects another class
        # is the one way in that copies none of it.
        association = super()._create_association()
        association.__class__ = PromptAssociation
        association.dul.__class__ = PromptDUL
        association.dimse.__class__ = PromptDIMSE
        association.dul.socket.__class__ = PromptSocket
        association.acse.__class__ = GuardedACSE
        cast("GuardedACSE", association.acse).doorkeeper = self.server.doorkeeper
        prompt = cast("PromptAssociation", association)
        prompt.dul.doorbell = prompt.dul.socket.doorbell = Doorbell()
        prompt.open_data_set = self.server.open_data_set
        return prompt


class Doorbell:
    """Wakes a thread that waits for a socket."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._closed = False

    def ring(self) -> None:
        """Wake the thread, now or when it next waits."""
        with self._lock:  # a closed descriptor's number may already be another file's
            if not self._closed:
                os.eventfd_write(self._descriptor, 1)

    def wait(self, peer: int, seconds: float) -> bool:
        """Return whether the peer's descriptor can be read, as soon as it can, the bell rings or the time is up."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(peer, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(seconds * 1000)]
        if self._descriptor in ready:
            os.eventfd_read(self._descriptor)
        return peer in ready

    def close(self) -> None:
        """Let the descriptor go; further rings are ignored."""
        with self._lock:
            self._closed = True
            os.close(self._descriptor)


class PromptSocket(AssociationSocket):
    """Waits for the peer and reads in as few calls as its sending allows."""

    doorbell: Doorbell
    patience_seconds = 0.0
    """How long `ready` waits."""
    deadline = 0.0
    """When the PDU that is being read must be there."""
    _unread = b""

    @property
    def ready(self) -> bool:
        """Whether the peer has sent something; False too if the doorbell rang."""
        if self.socket is None or not self._is_connected:
            return False
        pending = getattr(self.socket, "pending", None)  # what TLS has decrypted already, no poll can see
        if pending and pending():
            return True
        try:
            return self.doorbell.wait(self.socket.fileno(), self.patience_seconds)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # the connection is closed
            return False

    def fill(self, view: memoryview) -> bool:
        """Read as many bytes as the view takes; return whether they all came before the peer closed.

        Raises
        ------
        TimeoutError
            The PDU that they belong to takes too long.
        """
        assert self.socket is not None  # noqa: S101 - it is only read while connected
        count = 0
        while count < len(view) and (read := self.socket.recv_into(view[count:])):
            count += read
            if time.monotonic() > self.deadline:
                raise TimeoutError
        return count == len(view)

    def unread(self, data: bytes) -> None:
        """Give bytes back, for the next `recv`."""
        self._unread = data

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes; nothing if the peer closed before them all."""
        received = bytearray(nr_bytes)
        given, self._unread = self._unread[:nr_bytes], self._unread[nr_bytes:]
        received[: len(given)] = given
        return received if self.fill(memoryview(received)[len(given) :]) else bytearray()


class DataPDU(P_DATA_TF):
    """A received P-DATA-TF PDU, as views of the buffer it was read into."""

    def __init__(self, items: list[tuple[int, memoryview]]) -> None:
        super().__init__()
        self._items = items

    def to_primitive(self) -> P_DATA:
        """Return the items as a primitive, not copied."""
        primitive = P_DATA()
        # pynetdicom only indexes, slices and writes an item, which a view can do as well as bytes.
        primitive.presentation_data_value_list.extend(cast("list[tuple[int, bytes]]", self._items))
        return primitive


def presentation_data_values(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield context ID and value of each item of a P-DATA-TF PDU (PS3.8 9.3.5.1).

    Raises
    ------
    ValueError
        The lengths of the items do not add up to the PDU's, or an item lacks its control header.
    """
    at = 0
    while at < len(body):
        if at + PDV_HEADER.size >= len(body):
            raise ValueError("a presentation data value without control header")
        length, context_id = PDV_HEADER.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise ValueError("a presentation data value that is longer than its PDU")
        yield context_id, body[at + PDV_HEADER.size : end]
        at = end


def store_response(response: C_STORE) -> bytes:
    """Return the command set of a C-STORE-RSP (PS3.7 9.3.1.2), in Implicit VR Little Endian."""
    command = b"".join(
        (
            command_element(0x0002, str(response.AffectedSOPClassUID or "").encode("ascii")),
            command_element(0x0100, US.pack(C_STORE_RSP)),
            command_element(0x0120, US.pack(response.MessageIDBeingRespondedTo)),
            command_element(0x0800, US.pack(NO_DATA_SET)),
            command_element(0x0900, US.pack(response.Status)),
            command_element(0x1000, str(response.AffectedSOPInstanceUID or "").encode("ascii")),
        )
    )
    return command_element(0x0000, struct.pack("<L", len(command))) + command


def command_element(element: int, value: bytes) -> bytes:
    """Return an element of group 0000; UIDs are padded to an even length."""
    padded = value + b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0x0000, element, len(padded)) + padded


class PromptDUL(DULServiceProvider):
    """The DICOM upper layer, served by its association's thread."""

    socket: PromptSocket
    doorbell: Doorbell
    _serving = False
    _bytes_since_progress = 0

    def start(self) -> None:
        """Begin to serve; there is no thread to start."""
        self._header, self._body = bytearray(PDU_HEADER.size), bytearray()
        self._idle_timer.start()
        self._serving = True
        self.assoc._dul_ready.set()

    def is_alive(self) -> bool:
        """Whether there is still something to do."""
        return self._serving and not self._kill_thread

    def advance(self, seconds: float) -> None:
        """Handle one event: of a timer, the user or the peer, in this order (PS3.8 9.2); wait for the peer a while.

        The socket is only read when no event waits: what is read stands in a buffer that is used again.
        """
        if self.event_queue.empty():
            if self.artim_timer.expired:
                self.event_queue.put("Evt18")
            elif not self._process_recv_primitive():
                # pynetdicom closes the connection as soon as nothing more comes, once it is to be closed.
                self.socket.patience_seconds = 0 if self.state_machine.current_state == CLOSING else seconds
                if self._is_transport_event() and self._bytes_since_progress >= LEAST_PROGRESS_BYTES:
                    self.note_progress()
        if not self.event_queue.empty():
            self.state_machine.do_action(self.event_queue.get())

    def note_progress(self) -> None:
        """Begin the idle time anew."""
        self._bytes_since_progress = 0
        self._idle_timer.restart()

    def _read_pdu_data(self) -> None:
        """Read a data PDU without copying it; leave every other to pynetdicom. None may be longer than agreed."""
        self.socket.deadline = time.monotonic() + (self.assoc.network_timeout or 0)
        try:
            if not self.socket.fill(memoryview(self._header)):
                self.event_queue.put("Evt17")
                return
            kind, length = PDU_HEADER.unpack(self._header)
            self._bytes_since_progress += length
            longest = self.assoc.ae.maximum_pdu_size if kind == P_DATA_TF_TYPE else LONGEST_OTHER_PDU_BYTES
            if length > longest:
                self.event_queue.put("Evt19")
                return
            if kind != P_DATA_TF_TYPE or self.state_machine.current_state != ESTABLISHED:
                self.socket.unread(bytes(self._header))
                super()._read_pdu_data()
                return
            if length > len(self._body):
                self._body = bytearray(length)
            body = memoryview(self._body)[:length]
            if not self.socket.fill(body):
                self.event_queue.put("Evt17")
                return
        except OSError:
            self.event_queue.put("Evt17")
            return
        try:
            self._recv_pdu.put(DataPDU(list(presentation_data_values(body))))
        except ValueError:
            self.event_queue.put("Evt19")
        else:
            self.event_queue.put("Evt10")

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """Return the next primitive for the user, or None; serve while waiting for it."""
        deadline = time.monotonic() + (LONGEST_WAIT_SECONDS if timeout is None else timeout)
        while wait and self.is_alive() and not self.to_user_queue.queue:
            if (left := deadline - time.monotonic()) < 0:
                break
            self.advance(min(left, LONGEST_WAIT_SECONDS))
        return super().receive_pdu(wait=False)

    def send_pdu(self, primitive: Any) -> None:
        """Send a primitive to the peer."""
        super().send_pdu(primitive)
        while self.is_alive() and self.to_provider_queue.queue:
            self.advance(0)

    def stop_dul(self) -> bool:
        """Serve until the connection is closed; ARTIM bounds it."""
        while self.is_alive():
            self.advance(LONGEST_WAIT_SECONDS)
        return True

    def break_off(self) -> None:
        """Tell the peer by A-ABORT, past the state machine that may have broken (PS3.8 9.3.8)."""
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 0x02, 0x00
        if self.socket.socket:
            self.socket.send(pdu.encode())
            self.socket._shutdown_socket()
        self.kill_dul()


class PromptDIMSE(DIMSEServiceProvider):
    """Puts messages together; what is stored does not pass through memory."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of a message; once a C-STORE's command is whole, say where its data set goes.

        What is no C-STORE or C-ECHO, or too long to be one, ends the association.
        """
        for value in primitive.presentation_data_value_list:
            one = P_DATA()
            one.presentation_data_value_list.append(value)
            message = self.message = self.message or DIMSEMessage()
            try:
                is_whole = message.decode_msg(one)
                received = message.message_to_primitive() if is_whole else None
            except UNREADABLE:
                self.dul.event_queue.put("Evt19")
                return
            if isinstance(message, C_STORE_RQ) and type(message.data_set) is BytesIO:
                message.data_set = cast("PromptAssociation", self.assoc).data_set_of(message)
            in_memory = [message.encoded_command_set, message.data_set]
            if any(type(part) is BytesIO and part.tell() > LONGEST_COMMAND_BYTES for part in in_memory):
                self.dul.event_queue.put("Evt19")
                return
            if is_whole:
                self.message = None
                if isinstance(message, (C_STORE_RQ, C_ECHO_RQ)):
                    self.msg_queue.put((cast(int, message.context_id), cast("C_STORE | C_ECHO", received)))
                else:
                    self.dul.event_queue.put("Evt19")
                    return

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; the plain answer to C-STORE is encoded here, five times as fast as through data sets."""
        plain = isinstance(primitive, C_STORE) and primitive.MessageIDBeingRespondedTo is not None
        if not plain or primitive.ErrorComment or primitive.OffendingElement:
            super().send_msg(primitive, context_id)
            return
        answer = P_DATA()
        answer.presentation_data_value_list.append((context_id, LAST_COMMAND_FRAGMENT + store_response(primitive)))
        self.dul.send_pdu(answer)


class PromptAssociation(Association):
    """An accepted association, served by one thread."""

    dul: PromptDUL
    open_data_set: OpenDataSet
    _data_set: BytesIO | None = None
    _stopping = False

    def run(self) -> None:
        """Serve until the association ends."""
        try:
            if self._shake_hands():
                self.run_reactor()
        except Exception:  # the edge of a thread: whatever broke, the peer must not wait for an answer
            log.exception("association_broke")
            self.is_aborted, self.is_established = True, False
            self.dul.break_off()
            evt.trigger(self, evt.EVT_ABORTED, {})
        finally:
            if self._data_set:
                self._data_set.close()
            self.dul.doorbell.close()

    def _shake_hands(self) -> bool:
        """Begin TLS where it is spoken; return whether the peer may go on."""
        peer = self.dul.socket.socket
        if not isinstance(peer, ssl.SSLSocket):
            return True
        try:
            peer.do_handshake()
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            cast("PromptServer", self._server).doorkeeper.note_refusal(
                Refusal.TLS, self.requestor.address, error=reason
            )
            peer.close()
            return False
        return True

    def stop(self) -> None:
        """Abort soon; for other threads."""
        self._stopping = True
        self.dul.doorbell.ring()

    def data_set_of(self, message: C_STORE_RQ) -> BytesIO:
        """Return where the data set of a C-STORE goes."""
        context = self._accepted_cx.get(cast(int, message.context_id))
        if context is None:
            return BytesIO()  # the association is aborted when the message is whole
        self._data_set = self.open_data_set(self, message, str(context.transfer_syntax[0]))
        return self._data_set

    def _run_reactor(self) -> None:
        """Serve one message after another until the association ends."""
        while not self._kill:
            self.dul.advance(LONGEST_WAIT_SECONDS)
            if self.dimse.msg_queue.queue:
                context_id, message = self.dimse.get_msg()
                if message is not None:
                    self._serve(message, cast(int, context_id))
                    self.dul.note_progress()
            if self.dul.to_user_queue.queue:
                self._end()
            elif not self.dul.is_alive():
                self.kill()
            elif self._stopping or self.dul.idle_timer_expired():
                self.abort()

    def _serve(self, message: Any, context_id: int) -> None:
        """Serve a request; a C-STORE that lacks what it needs is answered too, if it has a number."""
        context = self._accepted_cx.get(context_id)
        if not isinstance(message, C_STORE) or context is None:
            self._serve_request(message, context_id)
            return
        if not message.is_valid_request:
            status = CANNOT_UNDERSTAND
        elif message.AffectedSOPClassUID != context.abstract_syntax:
            status = SOP_CLASS_NOT_SUPPORTED
        else:
            self._serve_request(message, context_id)
            return
        if message.DataSet:
            message.DataSet.close()
        if message.MessageID is None:
            self.abort()
            return
        log.warning("instance_refused", code="command-incomplete", status=status)
        answer = C_STORE()
        answer.MessageIDBeingRespondedTo, answer.Status = message.MessageID, status
        answer.AffectedSOPClassUID = message.AffectedSOPClassUID
        answer.AffectedSOPInstanceUID = message.AffectedSOPInstanceUID
        self.dimse.send_msg(answer, context_id)

    def _end(self) -> None:
        """Do what the peer asks for: release or abort."""
        if self.is_established and self.acse.is_release_requested():
            self.is_released, self.is_established = True, False  # the peer may come again as soon as it hears
            self.acse.send_release(is_response=True)
            evt.trigger(self, evt.EVT_RELEASED, {})
            self.kill()
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)  # so that listeners of EVT_ACSE_RECV hear of it
            self.is_aborted, self.is_established = True, False
            evt.trigger(self, evt.EVT_ABORTED, {})
            self.kill()
