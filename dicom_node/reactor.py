"""pynetdicom's association without its polling: it waits on the socket and on events instead.

pynetdicom 3.0 runs two threads an association, each asleep for a millisecond between looks at its queue or
socket, and reads the socket in pieces of 4 KB. At 512 KB an image that is half of the time. The classes here
take the place of three of its own, for associations that come in, and keep its state machine, its messages
and its handlers.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from queue import Empty
from typing import Any, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import AssociationSocket, RequestHandler

LONGEST_WAIT_SECONDS = 1.0
"""Timers (ARTIM, network idle) are looked at this often when nothing happens."""


class PromptRequestHandler(RequestHandler):
    """Makes the associations of a server prompt ones."""

    def _create_association(self) -> Association:
        # pynetdicom names its classes inside its own methods; giving the finished objects another class
        # is the one way in that copies none of it.
        association = super()._create_association()
        association.__class__ = PromptAssociation
        association.dul.__class__ = PromptDUL
        association.dul.socket.__class__ = PromptSocket
        return association


class PromptSocket(AssociationSocket):
    """Reads in as few calls as the peer's sending allows."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes; fewer only if the peer closed the connection."""
        received = bytearray(nr_bytes)
        view, count = memoryview(received), 0
        assert self.socket is not None  # noqa: S101 - it is only read while connected
        while count < nr_bytes and (read := self.socket.recv_into(view[count:])):
            count += read
        view.release()
        del received[count:]
        return received


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

    def wait(self, peer: socket.socket | None, seconds: float) -> None:
        """Return when the bell rings, the peer's socket can be read, or the time is up."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if peer is not None:
            poll.register(peer, select.POLLIN)
        if any(descriptor == self._descriptor for descriptor, _ in poll.poll(seconds * 1000)):
            os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Let the descriptor go; further rings are ignored."""
        with self._lock:
            self._closed = True
            os.close(self._descriptor)


class PromptDUL(DULServiceProvider):
    """The DICOM upper layer, waiting for the peer or the local user."""

    _doorbell: Doorbell

    def start(self) -> None:
        """Start the thread; it can be woken from now on."""
        self._doorbell = Doorbell()
        super().start()

    def run(self) -> None:
        """Handle one event after another until killed (PS3.8 9.2)."""
        self._idle_timer.start()
        try:
            while not self._kill_thread:
                self.assoc._dul_ready.set()
                if not self._turn():
                    self._wait()
        except Exception:  # the edge of a thread: whatever broke, the peer must not wait for an answer
            self._abort()
            raise
        finally:
            self._doorbell.close()
            cast("PromptAssociation", self.assoc).has_work.set()

    def _turn(self) -> bool:
        """Handle what is there: first a timer, then the user, then the peer. Return whether there was anything."""
        if self.artim_timer.expired:
            self.event_queue.put("Evt18")
        if not self._process_recv_primitive() and self._is_transport_event():
            self._idle_timer.restart()
        try:
            event = self.event_queue.get(block=False)
        except Empty:
            return False
        self.state_machine.do_action(event)
        if self.to_user_queue.queue or self.assoc.dimse.msg_queue.queue:
            cast("PromptAssociation", self.assoc).has_work.set()
        return True

    def _wait(self) -> None:
        """Sleep until the peer sends, the user has something to send, or a timer must be looked at."""
        peer = self.socket.socket if self.socket else None
        self._doorbell.wait(peer if peer and peer.fileno() >= 0 else None, LONGEST_WAIT_SECONDS)

    def _abort(self) -> None:
        """Tell the peer by A-ABORT, past the state machine that may have broken (PS3.8 9.3.8)."""
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 0x02, 0x00
        if self.socket:
            self.socket.send(pdu.encode())
        self.assoc.is_aborted, self.assoc.is_established = True, False
        self.assoc._kill = self._kill_thread = True

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive for the peer, and wake up."""
        super().send_pdu(primitive)
        self._doorbell.ring()

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self._doorbell.ring()

    def stop_dul(self) -> bool:
        """End the thread if the state machine is idle (Sta1); return whether it ended."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join()
        return True


class PromptAssociation(Association):
    """An accepted association, waiting for messages."""

    dul: PromptDUL
    _has_work: threading.Event | None = None

    @property
    def has_work(self) -> threading.Event:
        """Set when a message or a primitive waits, or when the upper layer has ended."""
        if self._has_work is None:
            self._has_work = threading.Event()
        return self._has_work

    def _run_reactor(self) -> None:
        """Serve one message after another until the association ends."""
        while not self._kill:
            self.has_work.wait(LONGEST_WAIT_SECONDS)
            self.has_work.clear()
            self._is_paused = True
            self._reactor_checkpoint.wait()
            self._is_paused = False
            while (message := self.dimse.get_msg())[1] is not None and not self._kill:
                self._serve_request(message[1], message[0])
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self._end(evt.EVT_RELEASED, is_released=True)
            elif self.acse.is_aborted():
                self.dul.receive_pdu(wait=False)  # so that listeners of EVT_ACSE_RECV hear of it
                self._end(evt.EVT_ABORTED, is_aborted=True)
            elif not self.dul.is_alive():
                self.kill()
            elif self.dul.idle_timer_expired():
                self.abort()
                self.kill()

    def _end(self, event: evt.NotificationEvent, **state: bool) -> None:
        """End with an event, released or aborted."""
        self.is_established = False
        for name, value in state.items():
            setattr(self, name, value)
        evt.trigger(self, event, {})
        self.kill()
