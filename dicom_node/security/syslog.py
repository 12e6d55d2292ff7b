"""Send syslog messages (RFC 5424) by UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425)."""

from __future__ import annotations

import errno
import os
import platform
import queue
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime

from dicom_node.log import get_logger
from dicom_node.settings import AuditSettings

PRIORITY = 10 * 8 + 5
"""Facility "security", severity "notice" (RFC 5424 6.2.1)."""
LONGEST_QUEUE = 10_000
RETRY_SECONDS = 5.0
CONNECTING_SECONDS = 10.0
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

log = get_logger()


class Syslog:
    """Sends messages from a thread of its own, so that nobody waits for the receiver.

    Messages that cannot be sent wait in memory, up to a limit; beyond it, new ones are dropped with a line in the log.
    So is a message that is too long for a datagram.
    """

    def __init__(self, settings: AuditSettings, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls
        self._queue: queue.Queue[bytes | None] = queue.Queue(LONGEST_QUEUE)
        self._closing = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._work, name="syslog", daemon=True)
        self._thread.start()

    def send(self, message_id: str, message: str) -> None:
        """Queue a message; returns at once."""
        try:
            self._queue.put_nowait(encode(message_id, message))
        except queue.Full:
            log.warning("audit_message_lost", code="queue-full")

    def close(self, seconds: float) -> None:
        """Send the messages that wait, for at most ``seconds``; if the queue is full, for twice as long."""
        self._closing.set()
        with suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
        self._thread.join(seconds)
        if left := self._queue.qsize():
            log.warning("audit_message_lost", code="receiver-away", instances=left)

    def _work(self) -> None:
        while message := self._queue.get():
            while not self._try(message):
                if self._closing.is_set():
                    return
                self._closing.wait(RETRY_SECONDS)

    def _try(self, message: bytes) -> bool:
        udp = self._settings.protocol == "udp"
        try:
            self._socket = self._socket or self._connect()
            if not udp and is_closed(self._socket):
                raise ConnectionResetError  # sending would succeed, but the message would be lost
            self._socket.sendall(message if udp else b"%d %s" % (len(message), message))
        except (OSError, ValueError) as error:  # ValueError: an invalid host name
            if getattr(error, "errno", None) == errno.EMSGSIZE:  # too long for any datagram, and others wait behind it
                log.warning("audit_message_lost", code="too-long", bytes=len(message))
                return True
            log.warning("audit_receiver_away", error=type(error).__name__, url=self._settings.url)
            if self._socket:
                self._socket.close()
                self._socket = None
            return False
        return True

    def _connect(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        if self._settings.protocol == "udp":
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            peer = socket.socket(family, kind)
            peer.connect(address)
            return peer
        peer = socket.create_connection((host, port), timeout=CONNECTING_SECONDS)
        return self._tls.wrap_socket(peer, server_hostname=host) if self._tls else peer


def is_closed(peer: socket.socket) -> bool:
    """Whether the receiver has closed its end; it never sends data, so reading only shows this."""
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        peer.settimeout(CONNECTING_SECONDS)


def encode(message_id: str, message: str) -> bytes:
    """Return a message with its header (RFC 5424 6)."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    header = f"<{PRIORITY}>1 {time} {platform.node() or '-'} hilum {os.getpid()} {message_id} - "
    return header.encode("ascii", "replace") + BYTE_ORDER_MARK + message.encode()
