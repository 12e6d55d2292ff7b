"""A limit to the duration of a connection: a peer that is never silent for long enough runs into no timeout."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def hung_up_after(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Hang up if a ``with`` lasts longer than ``seconds``; a thread that waits for the peer sees a lost connection."""
    hanging_up = threading.Timer(seconds, hang_up, (connection,))
    hanging_up.daemon = True
    hanging_up.start()
    try:
        yield
    finally:
        hanging_up.cancel()


def hang_up(connection: socket.socket) -> None:
    """End a connection on which another thread waits, by its socket: closing TLS would wait too."""
    with suppress(OSError):  # the connection has ended already
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
