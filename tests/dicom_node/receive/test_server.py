"""The server accepts a connection, or says why it does not."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dicom_node.receive.server import PromptRequestHandler
from tests.dicom_node.raw import CLOSED, RawPeer, associate_request
from tests.dicom_node.receiving import listening

pytestmark = pytest.mark.node


@pytest.fixture
def port(sqlite_record: Engine, tmp_path: Path) -> Iterator[int]:
    with listening(sqlite_record, tmp_path / "storage") as port:
        yield port


def test_a_connection_that_cannot_be_served_is_closed_and_logged_as_an_event(
    port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PromptRequestHandler, "handle", lambda _: 1 / 0)
    with RawPeer(port, patience_seconds=10) as peer:
        assert peer.status() == CLOSED
    said = "".join(capfd.readouterr())
    assert "connection_broke" in said
    assert "Exception occurred" not in said  # socketserver's own traceback, with the message


def test_a_connection_for_which_no_file_can_be_opened_waits_and_the_log_says_so(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = ""
    with socket.socket() as waiting:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            waiting.connect(("127.0.0.1", port))
            time.sleep(1.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        said = "".join(capfd.readouterr())
        waiting.settimeout(10)
        waiting.sendall(associate_request())
        assert waiting.recv(1) == b"\x02"  # A-ASSOCIATE-AC
    assert 1 <= said.count("connection_waits") <= 2
    assert "Too many open files" in said
