"""A webhook receiver, and the check of signatures that the operator's guide gives to authors of receivers."""

from __future__ import annotations

import ssl
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dicom_node.settings import NotificationSettings
from tests.certificates import Certificate

GUIDE = Path(__file__).parents[2] / "docs" / "operating.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - from the specification's example


@dataclass
class Receiver:
    """Notes every request, and answers with ``answer``."""

    port: int
    answer: Callable[[BaseHTTPRequestHandler], None]
    taken: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers (their names in lower case), and body of each request."""

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.taken]


def answering(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a function that answers every request with this status and these headers."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()

    return answer


@contextmanager
def receiving(
    answer: Callable[[BaseHTTPRequestHandler], None] = answering(204),  # noqa: B008 - it never changes
    *,
    port: int = 0,
    certificate: Certificate | None = None,
) -> Iterator[Receiver]:
    """Run a receiver on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.taken.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            receiver.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver = Receiver(server.server_address[1], answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def webhook(folder: Path, port: int, **settings: Any) -> NotificationSettings:
    """Return settings for a receiver on this machine; their secret is written to a file in the folder."""
    secret = folder / "webhook.secret"
    secret.write_text(f"{SECRET}\n")
    url = settings.pop("url", f"http://127.0.0.1:{port}/hook")
    return NotificationSettings(url=url, secret=secret, **settings)


def is_from_hilum(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Return what the function of this name in the operator's guide returns."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("    import base64"))
    end = next(n for n in range(start, len(lines)) if lines[n] and not lines[n].startswith("    "))
    names: dict[str, Any] = {}
    exec(textwrap.dedent("\n".join(lines[start:end])), names)  # noqa: S102 - our own guide
    return bool(names["is_from_hilum"](secret, headers, body))
