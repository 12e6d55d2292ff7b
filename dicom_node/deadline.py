"""An end to what a peer can make last: one that never is silent for long enough runs into no timeout."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def hung_up_after(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Hang up when the time of a ``with`` is over; who waits for the peer then sees a connection that is lost."""
    hanging_up = threading.Timer(seconds, hang_up, (connection,))
    hanging_up.daemon = True
    hanging_up.start()
    try:
        yield
    finally:
        hanging_up.cancel()


def hang_up(connection: socket.socket) -> None:
    """End a connection under the thread that waits for it; below TLS, which would wait too."""
    with suppress(OSError):  # it has ended
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
