"""Delivering to a DICOMweb service that takes, warns, rejects or fails, and to servers that are none."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import SegmentationStorage
from sqlalchemy import Engine

from dicom_node.cli import main
from dicom_node.deliver.breaker import FAILURES_TO_OPEN
from dicom_node.deliver.destination import verify
from dicom_node.deliver.http import phrase
from dicom_node.deliver.stow import CHUNK_BYTES, chunks
from dicom_node.errors import PassingFailure
from dicom_node.record.schema import deliveries
from dicom_node.settings import DeliverySettings, Destination, NodeSettings, Settings, TLSSettings, WebDestination
from dicom_node.study import DeliveryState
from tests.certificates import Authority, make_authority
from tests.dicom_node.delivering import deliver, deliverer_of, delivery_states, finish_study_with_files, write_results
from tests.dicom_node.dicomweb import Answer, Post, Service, response, service, take_all
from tests.dicom_node.pacs import storing_pacs
from tests.dicom_node.recording import results_of, rows
from tests.services import free_port

pytestmark = pytest.mark.node

FAILED_SOP, REFERENCED_SOP, REFERENCED_INSTANCE = "00081198", "00081199", "00081155"
WARNING_REASON, FAILURE_REASON = "00081196", "00081197"
SENT, PENDING, REJECTED = DeliveryState.SENT, DeliveryState.PENDING, DeliveryState.REJECTED


def settings_for(url: str, *, tls: TLSSettings | None = None, timeout_seconds: float = 2, **options: Any) -> Settings:
    return Settings.model_construct(
        node=NodeSettings(),
        tls=tls or TLSSettings(),
        delivery=DeliverySettings(first_retry_seconds=1000, network_timeout_seconds=timeout_seconds),
        destinations=(WebDestination(name="PACS", url=url, **options),),
    )


@pytest.fixture
def record(sqlite_record: Engine, tmp_path: Path) -> Engine:
    """A record in whose outbox a segmentation and a report wait."""
    finish_study_with_files(sqlite_record, tmp_path / "results")
    return sqlite_record


def messages(record: Engine) -> list[str]:
    return [str(row["message"]) for row in rows(record, deliveries)]


def test_results_are_sent_in_order_byte_by_byte(record: Engine, tmp_path: Path) -> None:
    with service() as peer:
        deliver(record, settings_for(peer.url))
        deliver(record, settings_for(peer.url))
    assert [post.path for post in peer.posts] == ["/dicom-web/studies"] * 2
    made = results_of(folder=tmp_path / "results")
    assert [post.objects for post in peer.posts] == [[result.path.read_bytes()] for result in made]
    assert delivery_states(record) == [(SENT, 0x0000)] * 2


@pytest.mark.parametrize("warning", [0xB000, 0xB006, 0xB007, 0xB123])
def test_a_warning_means_that_the_instance_was_kept(record: Engine, warning: int) -> None:
    with service(lambda post: (202, response(post, warning=warning))) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(SENT, warning)] * 2


@pytest.mark.parametrize("http_status", [200, 202, 400, 409])
@pytest.mark.parametrize(
    ("reason", "state"),
    [
        *((reason, REJECTED) for reason in (0xA900, 0xC000, 0x0122)),
        *((reason, PENDING) for reason in (0xA700, 0x0110)),
        *((reason, SENT) for reason in (0x0111, 0xB00E)),
    ],
)
def test_the_reason_of_a_failure_says_whether_it_is_tried_again(
    record: Engine, http_status: int, reason: int, state: DeliveryState
) -> None:
    with service(lambda post: (http_status, response(post, failure=reason))) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(state, reason)] * 2


@pytest.mark.parametrize("reason", [-1, 2**16, 2**70])
def test_a_reason_that_cannot_be_one_is_none(record: Engine, reason: int) -> None:
    """Such a reason would not fit into the record, and would end delivery again and again."""

    def answer(post: Post) -> Answer:
        (ds,) = post.data_sets
        is_failure = ds.SOPClassUID == SegmentationStorage
        sequence, keyword = (FAILED_SOP, FAILURE_REASON) if is_failure else (REFERENCED_SOP, WARNING_REASON)
        item = {REFERENCED_INSTANCE: {"vr": "UI", "Value": [ds.SOPInstanceUID]}}
        return 200, {sequence: {"vr": "SQ", "Value": [item | {keyword: {"vr": "US", "Value": [reason]}}]}}

    with service(answer) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(PENDING, 0x0110), (SENT, 0x0000)]


def test_instances_are_told_apart(record: Engine) -> None:
    def answer(post: Post) -> Answer:
        (ds,) = post.data_sets
        return (409, response(post, failure=0xC000)) if ds.SOPClassUID == SegmentationStorage else take_all(post)

    with service(answer) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(REJECTED, 0xC000), (SENT, 0x0000)]


@pytest.mark.parametrize(
    ("http_status", "state"),
    [*((status, REJECTED) for status in (409, 413, 415, 422)), *((status, PENDING) for status in (400, 500))],
)
def test_what_is_said_without_a_reason_is_said_of_one_object(
    record: Engine, http_status: int, state: DeliveryState
) -> None:
    answers = iter([(http_status, b"too much")])
    with service(lambda post: next(answers, None) or take_all(post)) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(state, None), (SENT, 0x0000)]
    assert f"HTTP {http_status}" in messages(record)[0]


@pytest.mark.parametrize("http_status", [301, 307, 401, 403, 404, 405, 408, 429, 502, 503, 504])
def test_what_a_server_says_of_itself_is_tried_again(record: Engine, http_status: int) -> None:
    with service(lambda _: (http_status, b"no")) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(PENDING, None)] * 2
    assert len(peer.posts) == 1
    assert f"HTTP {http_status}" in messages(record)[0]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Please log in</html>",
        b"",
        b"[]",
        b"7",
        b'{"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}',  # Orthanc's answer to an object that it could not read
        b'{"00081199": {"vr": "LO", "Value": ["1.2.3.9.1"]}}',
        b'{"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.4"]}}]}}',
        b"[" * 100_000,
    ],
)
def test_success_that_does_not_name_the_object_is_none(record: Engine, body: bytes) -> None:
    with service(lambda _: (200, body)) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(PENDING, None)] * 2
    assert "says nothing of the object" in messages(record)[0]


def test_an_answer_without_end_is_not_read(record: Engine) -> None:
    with service(lambda _: (200, b" " * (3 * 2**20))) as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(PENDING, None)] * 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_comes_before_all_is_sent_is_heard(
    record: Engine, tmp_path: Path, authority: Authority, scheme: str
) -> None:
    first = results_of(folder=tmp_path / "results")[0].path
    ds = pydicom.dcmread(first)
    ds.add_new("PixelData", "OB", bytes(20 * 2**20))  # more than the sockets' buffers hold
    ds.save_as(first)
    listener = socket.create_server(("127.0.0.1", 0))
    theirs, context = authority.sign("early"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.certificate, theirs.key)

    def refuse() -> None:
        peer, _ = listener.accept()
        listener.close()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the reset may discard the answer unsent
        if scheme == "https":
            peer = context.wrap_socket(peer, server_side=True)
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.close()  # much was not read, so this resets the connection

    thread = threading.Thread(target=refuse)
    thread.start()
    own = {"authorities": authority.certificate} if scheme == "https" else {}
    deliver(record, settings_for(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", **own))
    thread.join()
    assert delivery_states(record) == [(REJECTED, None), (PENDING, None)]


def test_objects_on_which_the_service_hangs_up_hold_up_no_other_study(sqlite_record: Engine, tmp_path: Path) -> None:
    studies = [f"1.2.{number}" for number in range(FAILURES_TO_OPEN + 1)]
    for study in studies:
        finish_study_with_files(sqlite_record, tmp_path / study, study)
    taken = [result.path.read_bytes() for result in results_of(studies[-1], tmp_path / studies[-1])]

    def hang_up(post: Post) -> Answer:
        if post.objects[0] not in taken:
            raise ConnectionAbortedError
        return take_all(post)

    with service(hang_up) as peer:
        deliver(sqlite_record, settings_for(peer.url))
    assert delivery_states(sqlite_record) == [(PENDING, None)] * 6 + [(SENT, 0x0000)] * 2


def test_a_service_that_hangs_up_after_each_answer_gets_all(record: Engine) -> None:
    with service(protocol="HTTP/1.0") as peer:
        deliver(record, settings_for(peer.url))
    assert delivery_states(record) == [(SENT, 0x0000)] * 2


def test_what_is_sent_is_never_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(3 * CHUNK_BYTES + 1))
    assert [len(chunk) for chunk in chunks([b"--", path])] == [2, *[CHUNK_BYTES] * 3, 1]


def test_a_service_that_is_away_is_tried_again(record: Engine) -> None:
    deliver(record, settings_for(f"http://127.0.0.1:{free_port()}"))
    assert delivery_states(record) == [(PENDING, None)] * 2
    assert "cannot be reached" in messages(record)[0]


def test_a_service_that_never_answers_is_left_and_tried_again(record: Engine) -> None:
    stop = threading.Event()
    with service(lambda post: (stop.wait(10), take_all(post))[1]) as peer:
        deliver(record, settings_for(peer.url, timeout_seconds=0.3))
        stop.set()
    assert delivery_states(record) == [(PENDING, None)] * 2


def test_a_service_that_is_away_is_left_alone_after_three_attempts(sqlite_record: Engine, tmp_path: Path) -> None:
    for number in range(5):
        finish_study_with_files(sqlite_record, tmp_path / str(number), f"1.2.{number}")
    with service(lambda _: (503, b"")) as peer:
        deliver(sqlite_record, settings_for(peer.url))
    assert len(peer.posts) == 3
    assert [row["attempts"] for row in rows(sqlite_record, deliveries)] == [1] * 6 + [0] * 4


def test_a_result_that_cannot_be_read_holds_up_no_other(record: Engine, tmp_path: Path) -> None:
    results_of(folder=tmp_path / "results")[0].path.write_bytes(b"")
    with service() as peer:
        deliver(record, settings_for(peer.url))
    assert [state for state, _ in delivery_states(record)] == [PENDING, SENT]


def test_a_pacs_and_a_service_are_both_served(sqlite_record: Engine, tmp_path: Path) -> None:
    finish_study_with_files(sqlite_record, tmp_path / "results", destinations=("PACS", "WEB"))
    with storing_pacs() as by_c_store, service() as by_http:
        settings = settings_for(by_http.url).model_copy(
            update={
                "destinations": (
                    Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=by_c_store.port),
                    WebDestination(name="WEB", url=by_http.url),
                )
            }
        )
        deliver(sqlite_record, settings)
    assert delivery_states(sqlite_record) == [(SENT, 0x0000)] * 4
    assert (len(by_c_store.taken), len(by_http.posts)) == (2, 2)


# Authentication of both sides


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ("hilum:päss:word\n", f"Basic {base64.b64encode('hilum:päss:word'.encode()).decode()}"),
        ("eyJh.eyJz-_.~+/==\n", "Bearer eyJh.eyJz-_.~+/=="),
    ],
)
def test_credentials_are_a_password_or_a_token(record: Engine, tmp_path: Path, credentials: str, header: str) -> None:
    (tmp_path / "secret").write_text(credentials, encoding="utf-8")
    with service() as peer:
        deliver(record, settings_for(peer.url, credentials=tmp_path / "secret"))
    assert {post.headers["authorization"] for post in peer.posts} == {header}


def test_credentials_are_read_anew_for_every_study(record: Engine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with service() as peer:
        settings = settings_for(peer.url, credentials=secret)
        deliverer = deliverer_of(record, settings)
        for study, token in ((None, "first"), ("1.2.4", "second")):
            if study:
                finish_study_with_files(record, tmp_path / study, study)
            secret.write_text(token)
            deliverer.deliver(settings.destinations[0], threading.Event())
    assert [post.headers["authorization"] for post in peer.posts] == ["Bearer first"] * 2 + ["Bearer second"] * 2


@pytest.mark.parametrize("content", [None, b"", b"two words", b"line\nfeed", b"\xff:\xff"])
def test_without_credentials_that_can_be_read_nothing_is_sent(
    record: Engine, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with service() as peer:
        deliver(record, settings_for(peer.url, credentials=tmp_path / "secret"))
    assert peer.posts == []
    assert delivery_states(record) == [(PENDING, None)] * 2
    assert str(tmp_path / "secret") in messages(record)[0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


def encrypted(peer: Service) -> str:
    return peer.url.replace("http:", "https:")


def test_a_service_is_known_by_its_authority(record: Engine, authority: Authority) -> None:
    with service(tls=(authority, authority.sign("service"))) as peer:
        deliver(record, settings_for(encrypted(peer), authorities=authority.certificate))
    assert delivery_states(record) == [(SENT, 0x0000)] * 2


def test_a_service_that_asks_for_it_is_shown_hilums_certificate(record: Engine, authority: Authority) -> None:
    tls = authority.settings(authority.sign("hilum"))
    with service(tls=(authority, authority.sign("service")), asks_for_certificates=True) as peer:
        deliver(record, settings_for(encrypted(peer), authorities=authority.certificate))
        assert delivery_states(record) == [(PENDING, None)] * 2
        settings = settings_for(encrypted(peer), tls=tls, client_certificate=True)
        assert "answers HTTP 200" in verify(settings.destinations[0], settings)


@pytest.mark.parametrize("case", ["another authority", "another host", "no encryption", "no file"])
def test_a_service_that_cannot_be_trusted_gets_nothing(
    record: Engine, authority: Authority, tmp_path: Path, case: str
) -> None:
    trusted = make_authority(tmp_path) if case == "another authority" else authority
    certificate = authority.sign("service", "DNS:elsewhere.example" if case == "another host" else "IP:127.0.0.1")
    authorities = tmp_path / "none.crt" if case == "no file" else trusted.certificate
    with service(tls=None if case == "no encryption" else (authority, certificate)) as peer:
        deliver(record, settings_for(encrypted(peer), authorities=authorities))
    assert peer.posts == []
    assert delivery_states(record) == [(PENDING, None)] * 2


# Trying a service, and sending files to it, by hand


@pytest.mark.parametrize("http_status", [200, 202, 204, 400, 409, 415])
def test_a_service_is_tried_with_a_request_without_an_object(http_status: int) -> None:
    with service(lambda _: (http_status, b"")) as peer:
        settings = settings_for(peer.url)
        assert f"HTTP {http_status}" in verify(settings.destinations[0], settings)
    assert [(post.path, post.objects) for post in peer.posts] == [("/dicom-web/studies", [])]


@pytest.mark.parametrize(
    ("http_status", "word"),
    [(302, "redirects"), (401, "credentials"), (404, "URL/studies"), (503, "unavailable"), (799, "log")],
)
def test_what_is_wrong_with_a_service_is_said(http_status: int, word: str) -> None:
    with service(lambda _: (http_status, b"")) as peer:
        settings = settings_for(peer.url)
        with pytest.raises(PassingFailure, match=rf"(?i)PACS answered HTTP {http_status}\b.*{word}"):
            verify(settings.destinations[0], settings)


def test_files_are_sent_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "results", "1.2.3")
    answers = iter([(413, b"")])
    with service(lambda post: next(answers, None) or take_all(post)) as peer:
        (tmp_path / "hilum.toml").write_text(f'[[destinations]]\nname = "WEB"\nurl = "{peer.url}"\n')
        monkeypatch.chdir(tmp_path)
        assert main(["send", "WEB", str(tmp_path / "results")]) == 1
    said = f"the service answered {phrase(413)}"
    assert capsys.readouterr().out == f"1 x not taken: {said}\n1 x 0x0000 taken\n"


def test_a_sent_file_at_which_the_service_hangs_up_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "results", "1.2.3")
    *_, last = sorted((tmp_path / "results").rglob("*.dcm"))

    def hang_up(post: Post) -> Answer:
        if post.objects == [last.read_bytes()]:
            raise ConnectionAbortedError
        return take_all(post)

    with service(hang_up) as peer:
        (tmp_path / "hilum.toml").write_text(f'[[destinations]]\nname = "WEB"\nurl = "{peer.url}"\n')
        monkeypatch.chdir(tmp_path)
        assert main(["send", "WEB", str(tmp_path / "results")]) == 1
    told = capsys.readouterr()
    assert told.out == "1 x 0x0000 taken\n"
    assert told.err.startswith(f"hilum: {last}: 127.0.0.1 cannot be reached or does not answer")
