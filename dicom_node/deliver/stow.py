"""Storing to a DICOMweb service by STOW-RS (PS3.18 10.5), as a user agent.

Each object is sent in its own request, so that the answer concerns that object.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from ssl import SSLEOFError
from urllib.parse import urlsplit

from pydicom.dataset import Dataset

from dicom_node.deliver.http import USER_AGENT, connected, phrase
from dicom_node.deliver.outgoing import Answer, Outcome, Outgoing, failure, load
from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.headers import UNREADABLE
from dicom_node.security.tls import service_context
from dicom_node.settings import Settings, WebDestination
from dicom_node.statuses import HELD_ALREADY, PROCESSING_FAILURE, SUCCESS

CHUNK_BYTES = 2**18
LONGEST_ANSWER_BYTES = 2**20
BEARER_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750 2.1. A token contains no colon, whereas USER:PASSWORD does (RFC 7617 2)."""
LARGEST_REASON = 0xFFFF
OF_THE_OBJECT = dict.fromkeys((409, 413, 415, 422), Outcome.REFUSED) | dict.fromkeys((400, 500), Outcome.PASSING)
"""HTTP statuses that concern the object that was sent; all others concern the service, its URL or the client."""
HELD = frozenset({HELD_ALREADY, 0xB00E})
"""Failure reasons of an object that the service has already; the second is that of Azure's DICOM service."""
READS_REQUESTS = frozenset({200, 202, 204, 400, 409, 413, 415, 422})
"""HTTP statuses with which a STOW-RS service may answer a request without an object."""
ADVICE = {
    2: "which says nothing of the object; is the URL that of a DICOMweb service?",
    3: "redirects are not followed; set url to where it leads",
    4: "check url (Hilum posts to URL/studies), credentials and client_certificate",
    5: "look at its log",
}
"""What to do about an answer, by its first digit."""


@contextmanager
def open_service(destination: WebDestination, settings: Settings) -> Iterator[Service]:
    """Connect to a service for the time of a ``with``.

    Raises
    ------
    PassingFailure
        The service cannot be reached or is not trusted, or a file that the settings name cannot be read.
    """
    try:
        headers = authorization(destination.credentials) if destination.credentials else {}
        own = settings.tls if destination.client_certificate else None
        tls = service_context(destination.authorities, own) if destination.is_encrypted else None
    except SettingsError as error:  # a fault in one destination's settings; the other destinations go on
        raise PassingFailure(error.code, error.message) from error
    with connected(destination.url, settings.delivery.network_timeout_seconds, tls) as connection:
        yield Service(connection, destination, headers)


def authorization(credentials: Path) -> dict[str, str]:
    """Return the Authorization header: Basic for USER:PASSWORD, Bearer for a token.

    Raises
    ------
    SettingsError
        The file cannot be read, or holds neither.
    """
    try:
        text = credentials.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "credentials-unreadable", f"credentials: {credentials} cannot be read ({type(error).__name__})"
        ) from error
    if ":" in text:
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
    if BEARER_TOKEN.fullmatch(text):
        return {"Authorization": f"Bearer {text}"}
    raise SettingsError("credentials-malformed", f"expected USER:PASSWORD or a bearer token in {credentials}")


class Service:
    """A DICOMweb service to which a connection is open."""

    def __init__(self, connection: HTTPConnection, destination: WebDestination, headers: dict[str, str]) -> None:
        self._connection = connection
        self._name = destination.name
        self._path = f"{urlsplit(destination.url).path.rstrip('/')}/studies"
        self._headers = {"Accept": "application/dicom+json", "User-Agent": USER_AGENT, **headers}

    def store(self, item: Outgoing) -> Answer:
        """Send an object; return the service's answer to it.

        Raises
        ------
        ObjectUnreadable
            The file is gone or damaged.
        PassingFailure
            The service failed, or its answer says nothing about the object.
        """
        ds = load(item, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        http_status, said = self._post(item.path)
        if answer := read_answer(said, str(ds.get("SOPInstanceUID"))):
            return answer
        if http_status in OF_THE_OBJECT:
            return Answer(OF_THE_OBJECT[http_status], None, f"the service answered {phrase(http_status)}")
        raise self._failure(http_status)

    def verify(self) -> int:
        """Send a request without an object; return the HTTP status if a STOW-RS service may answer so.

        Raises
        ------
        PassingFailure
            Something else answered, the service failed, or it does not accept the credentials.
        """
        http_status, _ = self._post()
        if http_status not in READS_REQUESTS:
            raise self._failure(http_status)
        return http_status

    def _post(self, *paths: Path) -> tuple[int, bytes]:
        """Send a request; return the HTTP status and the body of the answer."""
        boundary = uuid.uuid4().hex
        message = list(parts(paths, boundary))
        size = sum(len(part) if isinstance(part, bytes) else part.stat().st_size for part in message)
        content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {**self._headers, "Content-Type": content_type, "Content-Length": str(size)}
        # A service may answer and close before it has read all; over TLS, sending fails with SSLEOFError then.
        with suppress(BrokenPipeError, ConnectionResetError, SSLEOFError):
            self._connection.request("POST", self._path, chunks(message), headers)
        response = self._connection.getresponse()
        said = response.read(LONGEST_ANSWER_BYTES)
        if not response.isclosed():
            self._connection.close()  # the rest of the answer is not read; the next request connects again
        return response.status, said

    def _failure(self, http_status: int) -> PassingFailure:
        advice = ADVICE.get(http_status // 100, ADVICE[5])
        return PassingFailure("service-failed", f"{self._name} answered {phrase(http_status)}; {advice}")


def parts(paths: Iterable[Path], boundary: str) -> Iterator[bytes | Path]:
    """Yield the pieces of a multipart message, with one part for each file (PS3.18 8.6.1, RFC 2046 5.1)."""
    for path in paths:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        yield path
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def chunks(message: Iterable[bytes | Path]) -> Iterator[bytes]:
    """Yield the bytes of a message, reading files in chunks."""
    for part in message:
        if isinstance(part, bytes):
            yield part
            continue
        with part.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def read_answer(said: bytes, sop_instance_uid: str) -> Answer | None:
    """Return what a Store Instances Response (PS3.18 annex I) says about an object; None if it says nothing.

    HTTP 200 alone proves nothing: proxies and login pages answer so too, and some services do so if they do not
    understand a request.
    """
    try:
        ds = Dataset.from_json(said)
        for item in ds.get("FailedSOPSequence") or []:
            if item.ReferencedSOPInstanceUID == sop_instance_uid:
                reason = reason_in(item, "FailureReason", PROCESSING_FAILURE)
                return Answer(Outcome.TAKEN, reason) if reason in HELD else failure(reason)
        for item in ds.get("ReferencedSOPSequence") or []:
            if item.ReferencedSOPInstanceUID == sop_instance_uid:
                return Answer(Outcome.TAKEN, reason_in(item, "WarningReason", SUCCESS))
    except UNREADABLE:
        return None
    return None


def reason_in(item: Dataset, keyword: str, otherwise: int) -> int:
    """Return the reason in an item; ``otherwise`` if it has none, or one of more than 16 bits."""
    reason = int(item.get(keyword) or otherwise)
    return reason if 0 <= reason <= LARGEST_REASON else otherwise
