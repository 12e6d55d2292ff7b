"""The connection to a peer: wait for data, and read it with as few system calls as possible."""

from __future__ import annotations

import os
import select
import threading
import time

from pynetdicom.transport import AssociationSocket

READ_AHEAD_BYTES = 2**18
"""How much is read at once if the peer has already sent that much."""


class Waker:
    """Wakes a thread that waits for a socket."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._closed = False
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def wake(self) -> None:
        """Wake the thread, now or when it next waits."""
        with self._lock:  # a closed descriptor's number may already be another file's
            if not self._closed:
                os.eventfd_write(self._descriptor, 1)

    def wait(self, peer: int, seconds: float) -> bool:
        """Wait until the peer's descriptor is readable, `wake` is called or time is up; return if it is readable."""
        self._poll.register(peer, select.POLLIN)
        ready = [descriptor for descriptor, _ in self._poll.poll(seconds * 1000)]
        if self._descriptor in ready:
            os.eventfd_read(self._descriptor)
        return peer in ready

    def close(self) -> None:
        """Close the descriptor; from now on `wake` does nothing."""
        with self._lock:
            self._closed = True
            os.close(self._descriptor)


class PromptSocket(AssociationSocket):
    """Waits for the peer without polling, and reads ahead into one buffer."""

    waker: Waker
    patience_seconds = 0.0
    """How long `ready` waits."""
    deadline = 0.0
    """When the PDU that is being read must be complete, on the monotonic clock."""
    _start = _end = 0

    def begin(self, waker: Waker) -> None:
        """Set up the waker and the buffer; `__init__` is pynetdicom's."""
        self.waker = waker
        self._buffer = memoryview(bytearray(READ_AHEAD_BYTES))

    @property
    def ready(self) -> bool:
        """Whether there is something to read; wait for it for `patience_seconds` at most, or until woken."""
        if self.socket is None or not self._is_connected:
            return False
        if self._start < self._end:
            return True
        pending = getattr(self.socket, "pending", None)  # poll does not see what TLS has decrypted already
        if pending and pending():
            return True
        try:
            return self.waker.wait(self.socket.fileno(), self.patience_seconds)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # the connection is closed
            return False

    def peek(self, count: int) -> memoryview:
        """Return the next bytes without consuming them; fewer if the peer closes the connection first.

        The view is valid until the next read.

        Raises
        ------
        TimeoutError
            The PDU was not complete at `deadline`.
        """
        if self._end - self._start < count:
            self._read(count)
        return self._buffer[self._start : min(self._end, self._start + count)]

    def _read(self, count: int) -> None:
        assert self.socket is not None  # noqa: S101 - it is only read while connected
        if self._start == self._end or self._start + count > len(self._buffer):
            rest = self._buffer[self._start : self._end]
            if count > len(self._buffer):
                self._buffer = memoryview(bytearray(count))
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        while self._end - self._start < count and (read := self.socket.recv_into(self._buffer[self._end :])):
            self._end += read
            if time.monotonic() > self.deadline:
                raise TimeoutError

    def take(self, count: int) -> memoryview:
        """Return the next bytes, as `peek` does, and consume them."""
        taken = self.peek(count)
        self._start += len(taken)
        return taken

    def discard(self) -> bool:
        """Discard the bytes that have come, waiting for some if there are none; return False if the peer has closed."""
        if self._start == self._end:
            self._read(1)
        had_any = self._start < self._end
        self._start = self._end
        return had_any

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes; none if the peer closes before all of them have come."""
        taken = self.take(nr_bytes)
        return bytearray(taken) if len(taken) == nr_bytes else bytearray()
