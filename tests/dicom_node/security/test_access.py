"""Which peers the node lets in, and how it answers the others."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from sqlalchemy import Engine

from dicom_node.errors import SettingsError
from dicom_node.receive.scp import CONNECTIONS_WITHOUT_ASSOCIATION, SECONDS_WITHOUT_ASSOCIATION
from dicom_node.security.access import is_loopback, is_within, require_security
from dicom_node.settings import NodeSettings
from tests.dicom_node.hilum_node import hilum_node
from tests.dicom_node.receiving import answer_to_association, associated, listening
from tests.services import wait_until

CALLED, CALLING = "Called AE title not recognised", "Calling AE title not recognised"
HERE = {"ae_title": "SENDER", "addresses": ["127.0.0.0/8"]}
ELSEWHERE = {"ae_title": "SENDER", "addresses": ["10.0.0.0/8", "fd00::/8"]}
ANYWHERE = {"ae_title": "SENDER"}
OTHER = {"ae_title": "OTHER"}
LOWER_CASE = {"ae_title": "sender"}


@pytest.mark.node
@pytest.mark.parametrize(
    ("senders", "outcome"),
    [
        ([], "accepted"),
        ([HERE], "accepted"),
        ([ANYWHERE], "accepted"),
        ([OTHER, ELSEWHERE, HERE], "accepted"),
        ([ELSEWHERE], CALLING),
        ([OTHER], CALLING),
        ([LOWER_CASE], CALLING),
    ],
)
def test_a_sender_needs_its_title_and_address_on_the_list(
    sqlite_record: Engine, tmp_path: Path, senders: list[dict[str, object]], outcome: str
) -> None:
    with listening(sqlite_record, tmp_path, senders=senders) as port:
        assert answer_to_association(port) == outcome


@pytest.mark.node
def test_only_hilums_own_titles_may_be_called(sqlite_record: Engine, tmp_path: Path) -> None:
    with listening(sqlite_record, tmp_path) as port:
        titles = ("HILUM", "HILUM_STAT", "HILUM_STATT", "hilum")
        answers = [answer_to_association(port, called=title) for title in titles]
        assert answers == ["accepted", "accepted", CALLED, CALLED]


@pytest.mark.node
def test_any_title_may_be_called_where_the_settings_say_so(sqlite_record: Engine, tmp_path: Path) -> None:
    with listening(sqlite_record, tmp_path, any_called_ae_title=True) as port:
        assert answer_to_association(port, called="ANY-SCP") == "accepted"


@pytest.mark.node
def test_another_application_context_is_refused(
    sqlite_record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pynetdicom.acse.APPLICATION_CONTEXT_NAME", "1.2.840.10008.3.1.1.2")
    with listening(sqlite_record, tmp_path) as port:
        assert answer_to_association(port) == "Application context name not supported"


@pytest.mark.node
def test_a_refusal_is_written_down(sqlite_record: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with listening(sqlite_record, tmp_path, senders=[OTHER]) as port:
        answer_to_association(port)
    said = "".join(capfd.readouterr())
    assert all(word in said for word in ("association_refused", "calling-ae-title", "SENDER", "127.0.0.1"))


@pytest.mark.node
def test_a_doorkeeper_that_breaks_lets_nobody_in(
    sqlite_record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.security.access.Doorkeeper.refusal", lambda *_: 1 / 0)
    ae = AE("SENDER")
    ae.add_requested_context(Verification)
    with listening(sqlite_record, tmp_path) as port:
        assert ae.associate("127.0.0.1", port, ae_title="HILUM").is_aborted


@pytest.mark.node
def test_peers_that_only_connect_keep_no_sender_out(sqlite_record: Engine, tmp_path: Path) -> None:
    with listening(sqlite_record, tmp_path, maximum_associations=1) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        assert answer_to_association(port) == "accepted"
        for one in idle:
            one.close()


@pytest.mark.node
def test_an_association_that_ended_makes_room(sqlite_record: Engine, tmp_path: Path) -> None:
    with listening(sqlite_record, tmp_path, maximum_associations=1) as port:
        with associated(port, (Verification, "1.2.840.10008.1.2")):
            assert answer_to_association(port) == "Local limit exceeded"
        # The peer hears of the release a moment before the node has finished with it.
        wait_until(lambda: answer_to_association(port) == "accepted", "room")


@pytest.mark.node
def test_connections_beyond_the_limit_are_closed(
    sqlite_record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.receive.scp.CONNECTIONS_WITHOUT_ASSOCIATION", 2)
    with listening(sqlite_record, tmp_path, maximum_associations=1) as port:
        opened = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
        assert opened[3].recv(1) == b""
        for one in opened:
            one.close()


@pytest.mark.node
def test_who_connects_and_asks_for_no_association_is_cut_off(
    sqlite_record: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (CONNECTIONS_WITHOUT_ASSOCIATION, SECONDS_WITHOUT_ASSOCIATION) == (64, 30)
    monkeypatch.setattr("dicom_node.receive.scp.SECONDS_WITHOUT_ASSOCIATION", 0.1)
    with (
        listening(sqlite_record, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as peer,
    ):
        assert peer.recv(1) == b""


def test_ipv4_within_ipv6_counts_as_ipv4() -> None:
    networks = NodeSettings(senders=[HERE]).senders[0].addresses
    assert is_within("::ffff:127.0.0.1", networks)
    assert not is_within("::1", networks)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5"])  # noqa: S104 - to be refused
def test_listening_to_a_network_without_tls_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=r"node\.allow_unsecured = true"):
        require_security(NodeSettings(host=host), tls=False)


@pytest.mark.node
def test_a_node_that_would_listen_to_a_network_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_NODE__HOST", "0.0.0.0")  # noqa: S104 - to be refused
    with hilum_node(tmp_path) as node:
        assert node.process.wait(60) == 1
        assert b"HILUM_NODE__ALLOW_UNSECURED=true" in node.log.read_bytes()


def test_listening_to_a_network_is_allowed_with_tls_or_a_word() -> None:
    require_security(NodeSettings(host="0.0.0.0"), tls=True)  # noqa: S104 - what is tested
    require_security(NodeSettings(host="0.0.0.0", allow_unsecured=True), tls=False)  # noqa: S104 - what is tested


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_needs_no_tls(host: str) -> None:
    assert is_loopback(host)
    require_security(NodeSettings(host=host), tls=False)
