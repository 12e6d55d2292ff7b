"""A viewer and a PACS on one origin, as a hospital's web server provides them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class _Handler(SimpleHTTPRequestHandler):
    """Serves the viewer's files, and forwards DICOMweb requests to the PACS."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, pacs_port: int, config: Path, **options: Any) -> None:
        self._pacs_port = pacs_port
        self._config = config
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web/"):
            self._ask_pacs()
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        """Return the file of a URL. URLs without a file are pages within the viewer: they get its index.html."""
        if urlsplit(path).path == "/app-config.js":
            return str(self._config)
        file = super().translate_path(path)
        return file if Path(file).is_file() else str(Path(self.directory, "index.html"))

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _ask_pacs(self) -> None:
        pacs = HTTPConnection("127.0.0.1", self._pacs_port, timeout=120)
        pacs.request(self.command, self.path, headers=dict(self.headers))
        answer = pacs.getresponse()
        content = answer.read()
        pacs.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served(viewer: Path, config: Path, pacs_port: int) -> Iterator[str]:
    """Serve a viewer's folder and the PACS's DICOMweb on one port; yield the URL."""
    handler = partial(_Handler, directory=str(viewer), pacs_port=pacs_port, config=config)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
