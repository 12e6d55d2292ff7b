"""pynetdicom's upper layer on its association's thread: waits for the socket, and parses what arrives in one buffer."""

from __future__ import annotations

import struct
import time
from typing import Any, Protocol, cast

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.pdu import A_ABORT_RQ

from dicom_node.receive.dimse import P_DATA_TF_TYPE, presentation_data_values
from dicom_node.receive.transport import PromptSocket, Waker
from dicom_node.security.access import GuardedACSE

LONGEST_WAIT_SECONDS = 1.0
"""The longest wait for the socket: timers (ARTIM, network idle) are checked at least this often."""

PDU_HEADER = struct.Struct(">BxL")
"""Type and length (PS3.8 9.3.1)."""
LONGEST_OTHER_PDU_BYTES = 2**20
"""Enough for an A-ASSOCIATE-RQ, which names at most 128 presentation contexts."""
LEAST_PROGRESS_BYTES = 2**14
"""So many bytes, or a whole message, must arrive before the idle timer expires: a peer cannot keep its association by
sending a trickle."""
ESTABLISHED = "Sta6"
CLOSING = "Sta13"
LOCAL_ABORT = "Evt15"
ABORTING = ("AA-1", "AA-8")
"""The actions that send an A-ABORT: at `LOCAL_ABORT`, or because of what the peer has sent (PS3.8 9.2.2)."""

INVALID_PDU, LONG_PDU, INVALID_MESSAGE, TIMEOUT = "invalid-pdu", "pdu-too-long", "invalid-message", "timeout"
"""Why Hilum aborts an association; the codes in the log."""


class FragmentReader(Protocol):
    """Takes the fragments of messages, see `reactor.PromptDIMSE`."""

    def take(self, context_id: int, value: memoryview) -> None:
        """Process a fragment; raise ValueError if it may not come at this point."""


class PromptDUL(DULServiceProvider):
    """The DICOM upper layer, run by its association's thread instead of a thread of its own."""

    socket: PromptSocket
    waker: Waker
    _serving = False
    _bytes_since_progress = 0
    _fault = INVALID_PDU
    """What is wrong with the PDU that was read, if it leads to an abort."""

    def start(self) -> None:
        """Begin to serve; unlike in pynetdicom, this starts no thread."""
        self.socket.begin(self.waker)
        self._idle_timer.start()
        self._serving = True
        self.assoc._dul_ready.set()

    def is_alive(self) -> bool:
        """Whether the upper layer has been started and not killed; pynetdicom asks this of its thread."""
        return self._serving and not self._kill_thread

    def advance(self, seconds: float) -> None:
        """Handle one event of a timer, the local user or the peer, in this order (PS3.8 9.2).

        Wait for the peer for at most ``seconds``.
        """
        if not self.event_queue.queue:
            if self.artim_timer.expired:
                self.event_queue.put("Evt18")
            elif not self._process_recv_primitive():
                # In the closing state, pynetdicom closes the connection if nothing can be read: do not wait then.
                self.socket.patience_seconds = 0 if self.state_machine.current_state == CLOSING else seconds
                if self._is_transport_event() and self._bytes_since_progress >= LEAST_PROGRESS_BYTES:
                    self.note_progress()
        if self.event_queue.queue:
            event = self.event_queue.get()
            action = TRANSITION_TABLE.get((event, self.state_machine.current_state))
            if action in ABORTING and event != LOCAL_ABORT:
                self.note_abort(self._fault)
            self.state_machine.do_action(event)

    def note_abort(self, code: str) -> None:
        """Log that the association is aborted, and why."""
        cast("GuardedACSE", self.assoc.acse).doorkeeper.note_abort(self.assoc, code)

    def note_progress(self) -> None:
        """Restart the idle timer."""
        self._bytes_since_progress = 0
        self._idle_timer.restart()

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        """Return a PDU and its event; raise if it cannot become a primitive.

        The caller then treats the PDU as invalid; otherwise an action of the state machine would fail halfway.
        """
        pdu, event = super()._decode_pdu(bytestream)
        pdu.to_primitive()
        return pdu, event

    def _read_pdu_data(self) -> None:
        """Read a PDU; leave all but data of established associations to pynetdicom. One above its limit is invalid."""
        self.socket.deadline = time.monotonic() + (self.assoc.network_timeout or 0)
        try:
            if self.state_machine.current_state == CLOSING:  # ignore data: it may begin anywhere in a PDU
                if not self.socket.discard():
                    self.event_queue.put("Evt17")
                return
            header = self.socket.peek(PDU_HEADER.size)
            if len(header) < PDU_HEADER.size:
                self.event_queue.put("Evt17")
                return
            kind, length = PDU_HEADER.unpack(header)
            self._bytes_since_progress += length
            if length > (self.assoc.ae.maximum_pdu_size if kind == P_DATA_TF_TYPE else LONGEST_OTHER_PDU_BYTES):
                self._fault = LONG_PDU if kind == P_DATA_TF_TYPE else INVALID_PDU
                self.event_queue.put("Evt19")
            elif kind != P_DATA_TF_TYPE or self.state_machine.current_state != ESTABLISHED:
                super()._read_pdu_data()
            elif len(pdu := self.socket.take(PDU_HEADER.size + length)) < PDU_HEADER.size + length:
                self.event_queue.put("Evt17")
            else:
                self._take_data(pdu[PDU_HEADER.size :])
        except OSError as error:
            # BlockingIOError is the timeout of a socket without TLS. In the closing state, the abort is logged already.
            if isinstance(error, TimeoutError | BlockingIOError) and self.state_machine.current_state != CLOSING:
                self.note_abort(TIMEOUT)
            self.event_queue.put("Evt17")

    def _take_data(self, body: memoryview) -> None:
        """Pass the fragments in a data PDU to DIMSE; in an established association, DT-2 does no more (PS3.8 9.2.3)."""
        dimse = cast(FragmentReader, self.assoc.dimse)
        try:
            for context_id, value in presentation_data_values(body):
                dimse.take(context_id, value)
        except ValueError:
            self._fault = INVALID_MESSAGE
            self.event_queue.put("Evt19")

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """Return the next primitive for the local user, or None; handle events while waiting for it."""
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
        """Handle events until the connection is closed; the ARTIM timer limits how long that takes."""
        while self.is_alive():
            self.advance(LONGEST_WAIT_SECONDS)
        return True

    def break_off(self) -> None:
        """Send A-ABORT and close the connection without the state machine, which may be broken (PS3.8 9.3.8)."""
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 0x02, 0x00
        if self.socket.socket:
            self.socket.send(pdu.encode())
            self.socket._shutdown_socket()
        self.kill_dul()
