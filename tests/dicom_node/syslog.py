"""A syslog receiver of audit messages, which it checks against their schema."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from xml.etree.ElementTree import Element, fromstring

HEADER = re.compile(rb"<85>1 \d{4}-\d\d-\d\dT[\d:.]+\+00:00 \S+ hilum \d+ DICOM\+RFC3881 - \xef\xbb\xbf")
FRAME = re.compile(rb"(\d+) ")


class SyslogReceiver:
    """Receives syslog messages: datagrams, or octet-counted frames over TCP or TLS."""

    def __init__(self, protocol: str, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        self.raw: list[bytes] = []
        self._peers: list[socket.socket] = []
        self._tls = tls
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.url = f"{protocol}://127.0.0.1:{self._socket.getsockname()[1]}"
        if protocol != "udp":
            self._socket.listen()
        threading.Thread(target=self._datagrams if protocol == "udp" else self._accept, daemon=True).start()

    def _datagrams(self) -> None:
        with suppress(OSError):
            while True:
                self.raw.append(self._socket.recv(65536))

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                self._peers.append(peer)
                threading.Thread(target=self._frames, args=(peer,), daemon=True).start()

    def _frames(self, peer: socket.socket) -> None:
        with suppress(OSError):
            stream = (self._tls.wrap_socket(peer, server_side=True) if self._tls else peer).makefile("rb")
            while match := FRAME.fullmatch(read_to_space(stream)):
                self.raw.append(stream.read(int(match[1])))

    def close(self) -> None:
        for one in (self._socket, *self._peers):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def messages(self, event: str) -> list[Element]:
        """Return the messages with an event's code; all messages must be valid."""
        assert all(HEADER.match(raw) for raw in self.raw)
        found = [fromstring(HEADER.sub(b"", raw, count=1)) for raw in self.raw]  # noqa: S314 - Hilum's own messages
        for message in found:
            assert_valid(message)
        return [message for message in found if message.find("EventIdentification/EventID").get("csd-code") == event]


def read_to_space(stream: Any) -> bytes:
    word = b""
    while not word.endswith(b" ") and (byte := stream.read(1)):
        word += byte
    return word


@contextmanager
def syslog_receiver(protocol: str, **options: Any) -> Iterator[SyslogReceiver]:
    """Run a receiver on this machine until the ``with`` block ends."""
    receiver = SyslogReceiver(protocol, **options)
    try:
        yield receiver
    finally:
        receiver.close()


# The schema (PS3.15 A.5.1), as far as Hilum uses it: for each element its required and its optional attributes, and its
# children in order, each with the least and the greatest number.
CODED = ({"csd-code", "codeSystemName", "originalText"}, set[str](), list[tuple[str, int, int]]())
MANY = 1000
SCHEMA: dict[str, tuple[set[str], set[str], list[tuple[str, int, int]]]] = {
    "AuditMessage": (
        set(),
        set(),
        [
            ("EventIdentification", 1, 1),
            ("ActiveParticipant", 1, MANY),
            ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, MANY),
        ],
    ),
    "EventIdentification": (
        {"EventDateTime", "EventOutcomeIndicator"},
        {"EventActionCode"},
        [("EventID", 1, 1), ("EventTypeCode", 0, MANY), ("EventOutcomeDescription", 0, 1)],
    ),
    "ActiveParticipant": (
        {"UserID", "UserIsRequestor"},
        {"NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        [("RoleIDCode", 0, MANY)],
    ),
    "AuditSourceIdentification": ({"AuditSourceID"}, set(), []),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID"},
        {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"},
        [
            ("ParticipantObjectIDTypeCode", 1, 1),
            ("ParticipantObjectName", 1, 1),
            ("ParticipantObjectDescription", 0, MANY),
        ],
    ),
    "ParticipantObjectDescription": (set(), set(), [("SOPClass", 0, MANY)]),
    "SOPClass": ({"NumberOfInstances"}, {"UID"}, []),
    "EventOutcomeDescription": (set(), set(), []),
    "ParticipantObjectName": (set(), set(), []),
    **dict.fromkeys(("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode"), CODED),
}
ALLOWED = {
    "EventActionCode": set("CRUDE"),
    "EventOutcomeIndicator": {"0", "4", "8", "12"},
    "UserIsRequestor": {"true", "false"},
    "NetworkAccessPointTypeCode": set("12345"),
}


def assert_valid(element: Element) -> None:
    """Check an element and everything below it against the schema."""
    needed, optional, children = SCHEMA[element.tag]
    assert needed <= set(element.keys()) <= needed | optional, element.tag
    for name, values in ALLOWED.items():
        assert element.get(name, next(iter(values))) in values
    left = list(element)
    for tag, least, most in children:
        count = 0
        while left and left[0].tag == tag:
            assert_valid(left.pop(0))
            count += 1
        assert least <= count <= most, f"{tag} in {element.tag}"
    assert left == []
