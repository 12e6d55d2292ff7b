"""What `hilum node` and `hilum deliver` make of the settings."""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.deliver.deliverer import Deliverer
from dicom_node.errors import Defect, SettingsError
from dicom_node.files import Files
from dicom_node.receive.scp import listen
from dicom_node.receive.server import PromptServer
from dicom_node.security.audit import AuditTrail
from dicom_node.services import receive, run_deliver, shares, told
from dicom_node.settings import NodeSettings, Settings
from tests.dicom_node.receiving import answer_to_association, associated, send
from tests.dicom_node.syslog import syslog_receiver
from tests.factories import ct_series
from tests.services import wait_until

pytestmark = pytest.mark.node


def serve(settings: Settings, share: int, work: Callable[[int], object], stop: threading.Event | None = None) -> None:
    """Receive, as one of several processes, while ``work`` uses its port."""
    listener = listen(settings.node)
    Files(settings.storage.folder).make_folders()
    trail, stop = AuditTrail(settings), stop or threading.Event()
    receive(settings, trail, listener, None, share, stop, lambda: work(listener.getsockname()[1]))


def test_associations_are_shared_out_among_the_listening_processes(tmp_path: Path, sqlite_url: str) -> None:
    node = NodeSettings(port=0, maximum_associations=2)
    settings = Settings(node=node, database={"url": sqlite_url}, storage={"folder": tmp_path})

    def work(port: int) -> None:
        with associated(port):
            assert answer_to_association(port) == "Local limit exceeded"

    serve(settings, shares(2, 2)[1], work)


@pytest.mark.parametrize(("associations", "processes"), [(1, 1), (3, 1), (2, 2), (3, 2), (64, 2)])
def test_no_more_associations_are_shared_out_than_allowed(associations: int, processes: int) -> None:
    share, share_beside = shares(associations, processes)
    assert share + (processes - 1) * share_beside == associations
    assert min(share, share_beside) >= 1


def test_below_refuse_free_gib_new_studies_are_answered_with_out_of_resources(tmp_path: Path, sqlite_url: str) -> None:
    storage = {"folder": tmp_path / "storage", "refuse_free_gib": 2.0**30, "warn_free_gib": 2.0**30}
    settings = Settings(node=NodeSettings(port=0), database={"url": sqlite_url}, storage=storage)
    (path,) = ct_series(tmp_path / "sent", np.zeros((1, 8, 8), np.int16))
    statuses: list[int] = []
    serve(settings, 64, lambda port: statuses.extend(send(port, pydicom.dcmread(path))))
    assert statuses == [0xA700]


def test_a_process_that_can_accept_no_more_connections_ends(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptServer, "get_request", lambda _: 1 / 0)
    settings = Settings(node=NodeSettings(port=0), database={"url": sqlite_url}, storage={"folder": tmp_path})
    stop = threading.Event()

    def work(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)):
            assert stop.wait(10)

    with pytest.raises(Defect):
        serve(settings, 1, work, stop)


def test_a_node_that_breaks_tells_the_audit_trail_of_what_came_before_it_tells_of_its_stop(
    tmp_path: Path, sqlite_url: str
) -> None:
    (path,) = ct_series(tmp_path / "sent", np.zeros((1, 8, 8), np.int16))
    Files(tmp_path / "storage").make_folders()
    with syslog_receiver("tcp") as receiver, ExitStack() as open_still:
        settings = Settings(
            node=NodeSettings(port=0),
            database={"url": sqlite_url},
            storage={"folder": tmp_path / "storage"},
            audit={"url": receiver.url},
        )
        listener = listen(settings.node)

        def work() -> None:
            association = open_still.enter_context(associated(listener.getsockname()[1]))
            assert association.send_c_store(pydicom.dcmread(path)).Status == 0x0000
            raise Defect("thread-broke", "a part of this process broke")

        with pytest.raises(Defect), told(settings) as trail:
            receive(settings, trail, listener, None, settings.node.maximum_associations, threading.Event(), work)
        wait_until(lambda: len(receiver.messages("110100")) == 2, "start and stop", 4)
        assert len(receiver.messages("110104")) == 1


@pytest.fixture
def stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a service end as soon as it has begun, without changes to this process's signals and umask."""
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr("dicom_node.services.stop_on_signals", lambda: stop)
    monkeypatch.setattr("dicom_node.services.keep_private", lambda: None)
    monkeypatch.setenv("HILUM_STORAGE__FOLDER", str(tmp_path))


@pytest.mark.usefixtures("stopping")
def test_the_audit_trail_hears_of_start_and_stop_of_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    with syslog_receiver("udp") as receiver:
        monkeypatch.setenv("HILUM_AUDIT__URL", receiver.url)
        assert run_deliver(argparse.Namespace()) == 0
        messages = wait_until(lambda: len(receiver.raw) == 2 and receiver.messages("110100"), "both messages")
    kinds = [message.find("EventIdentification/EventTypeCode").get("csd-code") for message in messages]
    assert kinds == ["110120", "110121"]


@pytest.mark.usefixtures("stopping")
def test_the_audit_trail_hears_of_the_stop_of_a_delivery_that_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_(*_: object) -> None:
        raise Defect("thread-broke", "a part of this process broke")

    monkeypatch.setattr(Deliverer, "run", break_)
    with syslog_receiver("udp") as receiver:
        monkeypatch.setenv("HILUM_AUDIT__URL", receiver.url)
        with pytest.raises(Defect):
            run_deliver(argparse.Namespace())
        wait_until(lambda: len(receiver.messages("110100")) == 2, "both messages", 4)


@pytest.mark.usefixtures("stopping")
def test_delivery_does_not_start_without_the_webhooks_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_NOTIFICATION__URL", "https://worklist.example/hilum")
    monkeypatch.setenv("HILUM_NOTIFICATION__SECRET", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="No such file"):
        run_deliver(argparse.Namespace())
