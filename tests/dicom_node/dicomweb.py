"""A DICOMweb service on the loopback interface that gives the answers that a test chooses."""

from __future__ import annotations

import email
import email.policy
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from tests.certificates import Authority, Certificate


@dataclass
class Post:
    """A request that the service received."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    objects: list[bytes]

    @property
    def data_sets(self) -> list[Dataset]:
        return [pydicom.dcmread(BytesIO(content)) for content in self.objects]


Answer = tuple[int, Any]
"""HTTP status, and the body: bytes, or a response in the DICOM JSON model."""


@dataclass
class Service:
    """A running service: how it answers, and the requests it received."""

    answer: Callable[[Post], Answer]
    port: int = 0
    posts: list[Post] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"


def response(post: Post, *, failure: int | None = None, warning: int | None = None) -> dict[str, Any]:
    """Return a Store Instances Response that accepts, or with ``failure`` fails, every object of a request."""
    answer = Dataset()
    answer.FailedSOPSequence, answer.ReferencedSOPSequence = [], []
    for ds in post.data_sets:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
        if failure is not None:
            item.FailureReason = failure
        if warning is not None:
            item.WarningReason = warning
        (answer.ReferencedSOPSequence if failure is None else answer.FailedSOPSequence).append(item)
    told: dict[str, Any] = answer.to_json_dict()
    return told


def take_all(post: Post) -> Answer:
    return 200, response(post)


@contextmanager
def service(
    answer: Callable[[Post], Answer] = take_all,
    *,
    port: int = 0,
    tls: tuple[Authority, Certificate] | None = None,
    asks_for_certificates: bool = False,
    protocol: str = "HTTP/1.1",
) -> Iterator[Service]:
    """Run a service until the ``with`` block ends."""
    running = Service(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = protocol

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            post = Post(self.path, {k.lower(): v for k, v in self.headers.items()}, parts(self.headers, content))
            running.posts.append(post)
            try:
                status, body = running.answer(post)
            except ConnectionAbortedError:  # ``answer`` raises this to hang up
                self.close_connection = True
                return
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status // 100 == 3:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls:
        authority, certificate = tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        if asks_for_certificates:
            context.load_verify_locations(authority.certificate)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
    running.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parts(headers: Any, content: bytes) -> list[bytes]:
    """Return the objects of a multipart message, parsed by Python's own email package."""
    head = f"Content-Type: {headers['Content-Type']}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = email.message_from_bytes(head + content, policy=email.policy.HTTP)
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom"
    if not message.is_multipart():
        return []
    assert not message.defects
    assert {part.get_content_type() for part in message.iter_parts()} == {"application/dicom"}
    return [part.get_payload(decode=True) for part in message.iter_parts()]
