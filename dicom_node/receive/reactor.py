"""pynetdicom's association on one thread, without polling and without copies.

pynetdicom 3.0 runs two threads for each association; both sleep for a millisecond between looks at their queue or
socket. It reads the socket in pieces of 4 KB and copies an image six times before a handler sees it. The classes here
replace its own for incoming associations. They keep its state machine, its negotiation and its other services, and
change three things:

- One thread does everything, and waits for the socket (`upper_layer`).
- What the peer sends is read into one buffer and parsed there.
- In an established association, C-STORE bypasses pynetdicom's primitives and messages: while its data set arrives, it
  is written to the file that the `StorageHandler` has opened for it.
"""

from __future__ import annotations

import ssl
from typing import Protocol, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.log import get_logger
from dicom_node.receive.dimse import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    C_ECHO_RQ,
    C_STORE_RQ,
    COMMAND,
    COMMAND_DATA_SET_TYPE,
    COMMAND_FIELD,
    LAST,
    MESSAGE_ID,
    N_EVENT_REPORT_RQ,
    NO_DATA_SET,
    CommandSet,
    read_command,
)
from dicom_node.receive.incoming import IncomingFile
from dicom_node.receive.upper_layer import LONGEST_WAIT_SECONDS, TIMEOUT, PromptDUL
from dicom_node.security.access import GuardedACSE, Refusal
from dicom_node.statuses import CANNOT_UNDERSTAND, PROCESSING_FAILURE, SOP_CLASS_NOT_SUPPORTED

LONGEST_COMMAND_BYTES = 2**16
LONGEST_REPORT_BYTES = 2**20
"""Limit for an N-EVENT-REPORT on storage commitment; Hilum requests it for at most a hundred instances at once."""


class StorageHandler(Protocol):
    """Stores what C-STORE brings."""

    def open_data_set(
        self, association: PromptAssociation, command: CommandSet, transfer_syntax_uid: str
    ) -> IncomingFile:
        """Return the file to which the data set is written while it arrives."""

    def store(
        self,
        association: PromptAssociation,
        command: CommandSet,
        transfer_syntax_uid: str,
        incoming: IncomingFile,
    ) -> int:
        """Store a complete data set; return the status of the response."""


log = get_logger()


class PromptDIMSE(DIMSEServiceProvider):
    """Assembles messages: C-STORE here, C-ECHO and N-EVENT-REPORT by pynetdicom; any other ends the association."""

    assoc: PromptAssociation
    _command_bytes = b""
    _storing: tuple[CommandSet, IncomingFile] | None = None
    """The C-STORE whose data set is arriving, and the file for it."""
    _report: tuple[CommandSet, int] | None = None
    """The N-EVENT-REPORT whose data set is arriving, and how many bytes have arrived."""

    def take(self, context_id: int, value: memoryview) -> None:
        """Process a message fragment, which begins with its message control header (PS3.8 E.2).

        Raises
        ------
        ValueError
            The fragment may not come at this point, or its message is unsupported, malformed or too long.
        """
        is_command, is_last = value[0] & COMMAND, value[0] & LAST
        if self._report is not None:
            command, size_bytes = self._report
            size_bytes += len(value)
            if is_command or context_id != command.context_id or size_bytes > LONGEST_REPORT_BYTES:
                raise ValueError("another message before the report ended, or a report that does not end")
            self._report = None if is_last else (command, size_bytes)
            self._pass_on(context_id, bytes(value))
            return
        if self._storing is None:
            self._command_bytes += value[1:]
            if not is_command or len(self._command_bytes) > LONGEST_COMMAND_BYTES:
                raise ValueError("a command that does not end, or data without one")
            if is_last:
                whole, self._command_bytes = self._command_bytes, b""
                self._begin(read_command(context_id, whole), whole)
            return
        command, incoming = self._storing
        if is_command or context_id != command.context_id:
            raise ValueError("another message before the data set ended")
        incoming.write(value[1:])
        if is_last:
            self._storing = None
            self.assoc.serve_store(command, incoming)

    def _begin(self, command: CommandSet, whole: bytes) -> None:
        field = command.number(COMMAND_FIELD)
        if field in (C_ECHO_RQ, N_EVENT_REPORT_RQ):
            if field == N_EVENT_REPORT_RQ and command.number(COMMAND_DATA_SET_TYPE) != NO_DATA_SET:
                self._report = command, 0
            self._pass_on(command.context_id, bytes((COMMAND | LAST,)) + whole)
        elif field != C_STORE_RQ or command.number(MESSAGE_ID) is None:
            raise ValueError("no C-STORE, C-ECHO or N-EVENT-REPORT, or one that cannot be answered")
        else:
            incoming = self.assoc.begin_store(command)
            if command.number(COMMAND_DATA_SET_TYPE) == NO_DATA_SET:
                self.assoc.serve_store(command, incoming)
            else:
                self._storing = command, incoming

    def _pass_on(self, context_id: int, value: bytes) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, value))
        self.receive_primitive(primitive)

    def discard(self) -> None:
        """Remove the file of a data set that will not be completed."""
        if self._storing:
            self._storing[1].close()


class PromptAssociation(Association):
    """An incoming association, served by one thread."""

    dul: PromptDUL
    handler: StorageHandler
    _stopping = False

    def run(self) -> None:
        """Serve until the association ends."""
        try:
            if self._shake_hands():
                self.run_reactor()
        except Exception:  # the edge of a thread: whatever broke, the peer must not wait for an answer
            self.is_aborted, self.is_established = True, False
            self.dul.break_off()
            log.exception("association_broke")
            evt.trigger(self, evt.EVT_ABORTED, {})
        finally:
            cast("PromptDIMSE", self.dimse).discard()
            self.dul.waker.close()

    def _shake_hands(self) -> bool:
        """Do the TLS handshake if the connection uses TLS; return False if it failed."""
        peer = self.dul.socket.socket
        if not isinstance(peer, ssl.SSLSocket):
            return True
        try:
            peer.do_handshake()
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            cast("GuardedACSE", self.acse).doorkeeper.note_refusal(Refusal.TLS, self.requestor.address, error=reason)
            peer.close()
            return False
        return True

    def stop(self) -> None:
        """Have the association's thread abort it soon; for calls from other threads."""
        self._stopping = True
        self.dul.waker.wake()

    def begin_store(self, command: CommandSet) -> IncomingFile:
        """Return the file for the data set of a C-STORE.

        Raises
        ------
        ValueError
            Its presentation context was not accepted.
        """
        context = self._accepted_cx.get(command.context_id)
        if context is None:
            raise ValueError("a presentation context that was not accepted")
        return self.handler.open_data_set(self, command, context.transfer_syntax[0])

    def serve_store(self, command: CommandSet, incoming: IncomingFile) -> None:
        """Store the data set of a C-STORE that has arrived, and send the response."""
        with incoming:
            status = self._store(command, incoming)
        self.dul.socket.send(command.answer(status))
        self.dul.note_progress()

    def _store(self, command: CommandSet, incoming: IncomingFile) -> int:
        context = self._accepted_cx[command.context_id]
        has_data = command.number(COMMAND_DATA_SET_TYPE) != NO_DATA_SET
        if not (has_data and command.uid(AFFECTED_SOP_CLASS_UID) and command.uid(AFFECTED_SOP_INSTANCE_UID)):
            log.warning("instance_refused", code="command-incomplete", status=CANNOT_UNDERSTAND)
            return CANNOT_UNDERSTAND
        if command.uid(AFFECTED_SOP_CLASS_UID) != context.abstract_syntax:
            log.warning("instance_refused", code="other-sop-class", status=SOP_CLASS_NOT_SUPPORTED)
            return SOP_CLASS_NOT_SUPPORTED
        try:
            return self.handler.store(self, command, context.transfer_syntax[0], incoming)
        except Exception:  # the edge of a request: what one instance breaks must not hold up the others
            log.exception("instance_broke")
            return PROCESSING_FAILURE

    def _run_reactor(self) -> None:
        """Serve one message after another until the association ends."""
        while not self._kill:
            self.dul.advance(LONGEST_WAIT_SECONDS)
            if self.dimse.msg_queue.queue:
                context_id, message = self.dimse.get_msg()
                if message is not None:
                    self._serve_request(message, cast(int, context_id))
                    self.dul.note_progress()
            if self.dul.to_user_queue.queue:
                self._end()
            elif not self.dul.is_alive():
                self.kill()
            elif self._stopping:
                self.abort()
            elif self.dul.idle_timer_expired():
                self.dul.note_abort(TIMEOUT)
                self.abort()

    def _end(self) -> None:
        """Release the association if the peer has requested that, or end it if it was aborted."""
        if self.is_established and self.acse.is_release_requested():
            self.is_released, self.is_established = True, False  # first: with the response, the peer may reconnect
            self.acse.send_release(is_response=True)
            evt.trigger(self, evt.EVT_RELEASED, {})
            self.kill()
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)  # triggers EVT_ACSE_RECV
            self.is_aborted, self.is_established = True, False
            evt.trigger(self, evt.EVT_ABORTED, {})
            self.kill()
