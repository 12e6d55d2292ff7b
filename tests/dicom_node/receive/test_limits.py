"""Limits to how much, how slowly and how oddly a peer may send."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, MRImageStorage
from sqlalchemy import Engine

from tests.dicom_node.raw import (
    ABORT,
    ABORTED,
    CLOSED,
    DATA,
    RELEASE_RP,
    RELEASE_RQ,
    RawPeer,
    associate_request,
    command_set,
    fragment,
    pdu,
    store_command,
    store_message,
)
from tests.dicom_node.receiving import data_set, encoded, listening, stored_files

pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore::UserWarning")]

ENDED = (ABORTED, CLOSED)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def port(sqlite_record: Engine, storage: Path) -> Iterator[int]:
    limits = {"network_timeout_seconds": 1, "maximum_pdu_bytes": 2**16, "maximum_object_bytes": 2**20}
    with listening(sqlite_record, storage, **limits) as port:
        yield port


# How much


def test_a_data_pdu_longer_than_agreed_ends_the_association(port: int) -> None:
    with RawPeer(port).associate() as peer:
        peer.send(struct.pack(">BxL", DATA, 2**16 + 1))
        assert peer.status() == ABORTED


def test_an_association_request_without_end_is_not_waited_for(port: int) -> None:
    with RawPeer(port) as peer:
        peer.send(struct.pack(">BxL", 1, 2**32 - 1))
        assert peer.status() == ABORTED


@pytest.mark.parametrize("kind", [1, DATA, 0x16])
def test_what_follows_a_broken_pdu_is_not_answered_again_and_again(port: int, kind: int) -> None:
    with RawPeer(port) as peer:
        peer.send(struct.pack(">BxL", kind, 2**31) + bytes(5000))
        peer.socket.shutdown(socket.SHUT_WR)
        assert [peer.receive()[0] for _ in range(2)] == [ABORT, 0]


def test_a_command_without_end_ends_the_association(port: int) -> None:
    with RawPeer(port).associate() as peer:
        piece = pdu(DATA, fragment(bytes(16000), command=True, last=False))
        peer.send(piece * 8)
        assert peer.status() == ABORTED


def test_data_without_a_command_ends_the_association(port: int) -> None:
    with RawPeer(port).associate() as peer:
        peer.send(pdu(DATA, fragment(bytes(16000), command=False, last=False)) * 8)
        assert peer.status() == ABORTED


def test_an_object_beyond_the_limit_is_refused_and_the_next_is_taken(port: int, storage: Path) -> None:
    small = encoded(data_set())
    with RawPeer(port).associate() as peer:
        large = small + b"\xe0\x7f\x10\x00" + struct.pack("<L", 2**20) + bytes(2**20)
        assert peer.store(store_command(), large) == 0xC000
        assert stored_files(storage) == []
        assert peer.store(store_command(), small) == 0x0000


# How slowly


def send_slowly(peer: RawPeer, pieces: Iterator[bytes], stop: threading.Event) -> None:
    for piece in pieces:
        if stop.wait(0.2):
            return
        peer.send(piece)


@pytest.mark.parametrize("what", ["nothing", "bytes of a PDU", "PDUs of a message"])
def test_who_holds_an_association_and_brings_nothing_is_cut_off(port: int, what: str) -> None:
    message = store_message(store_command(), encoded(data_set()) * 100, longest=2)
    header_bytes = len(store_message(store_command(), b"")) - 12
    head, rest = message[:header_bytes], message[header_bytes:]
    pieces = {
        "nothing": iter(()),
        "bytes of a PDU": (message[at : at + 1] for at in range(len(message))),
        "PDUs of a message": iter([head, *(rest[at : at + 14] for at in range(0, len(rest), 14))]),
    }[what]
    stop = threading.Event()
    with RawPeer(port, patience_seconds=20).associate() as peer:
        sender = threading.Thread(target=send_slowly, args=(peer, pieces, stop))
        sender.start()
        try:
            assert peer.status() in ENDED
        finally:
            stop.set()
            sender.join()


def test_who_stalls_within_a_pdu_is_cut_off_though_the_timeout_is_below_a_second(
    sqlite_record: Engine, storage: Path
) -> None:
    with (
        listening(sqlite_record, storage, network_timeout_seconds=0.5) as port,
        RawPeer(port, patience_seconds=5).associate() as peer,
    ):
        peer.send(struct.pack(">BxL", DATA, 1000))
        assert peer.status() in ENDED


def test_a_request_that_comes_byte_by_byte_is_cut_off(port: int) -> None:
    stop = threading.Event()
    request = associate_request()
    with RawPeer(port, patience_seconds=20) as peer:
        pieces = (request[at : at + 1] for at in range(len(request)))
        sender = threading.Thread(target=send_slowly, args=(peer, pieces, stop))
        sender.start()
        try:
            assert peer.status() in ENDED
        finally:
            stop.set()
            sender.join()


def test_who_goes_on_working_is_not_cut_off(sqlite_record: Engine, storage: Path) -> None:
    with listening(sqlite_record, storage, network_timeout_seconds=3) as port, RawPeer(port).associate() as peer:
        began = time.monotonic()
        while time.monotonic() < began + 4:
            assert peer.store(store_command(), encoded(data_set())) == 0x0000
            time.sleep(0.1)


HOUR = 3600.0


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + seconds)


def test_a_clock_set_back_keeps_nobody_who_brings_nothing(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawPeer(port, patience_seconds=20).associate() as peer:
        set_clock(monkeypatch, -5 * HOUR)
        assert peer.status() in ENDED


def test_a_clock_set_back_keeps_no_connection_without_an_association(
    sqlite_record: Engine, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.receive.scp.SECONDS_WITHOUT_ASSOCIATION", 1)
    with listening(sqlite_record, storage) as port, RawPeer(port, patience_seconds=20) as peer:
        time.sleep(0.2)  # until the connection is accepted and its timer runs
        set_clock(monkeypatch, -5 * HOUR)
        assert peer.status() in ENDED


def test_a_clock_set_forward_cuts_nobody_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawPeer(port, patience_seconds=20).associate() as peer:
        set_clock(monkeypatch, 5 * HOUR)
        time.sleep(0.2)  # long enough for the association's timers to be looked at
        assert peer.store(store_command(), encoded(data_set())) == 0x0000


# How oddly


@pytest.mark.parametrize("missing", [0x0002, 0x1000])
def test_a_command_that_lacks_something_is_answered(port: int, storage: Path, missing: int) -> None:
    whole = store_command()
    partial = {number: value for number, value in whole.items() if number != missing}
    with RawPeer(port).associate() as peer:
        assert peer.store(partial, encoded(data_set())) == 0xC000
        assert stored_files(storage) == []
        assert peer.store(whole, encoded(data_set())) == 0x0000


def test_a_command_without_a_number_cannot_be_answered_and_ends_the_association(port: int, storage: Path) -> None:
    with RawPeer(port).associate() as peer:
        assert peer.store(store_command(message_id=None), encoded(data_set())) == ABORTED
    assert stored_files(storage) == []


def test_a_command_that_promises_no_data_cannot_be_understood(port: int) -> None:
    with RawPeer(port).associate() as peer:
        peer.send(pdu(DATA, fragment(command_set(store_command(has_data=False)), command=True, last=True)))
        assert peer.status() == 0xC000


def test_another_class_than_the_contexts_is_not_supported(port: int) -> None:
    with RawPeer(port).associate((CTImageStorage, ImplicitVRLittleEndian)) as peer:
        assert peer.store(store_command(MRImageStorage), encoded(data_set(SOPClassUID=MRImageStorage))) == 0x0122


@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0100, 0x0130, 0x8001, 0x7777])
def test_what_is_neither_c_store_nor_c_echo_ends_the_association(port: int, field: int) -> None:
    elements = store_command(has_data=False) | {0x0100: struct.pack("<H", field)}
    with RawPeer(port).associate() as peer:
        peer.send(pdu(DATA, fragment(command_set(elements), command=True, last=True)))
        assert peer.status() == ABORTED


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_a_request_with_a_context_of_an_even_number_is_aborted_and_breaks_nothing(
    port: int, capfd: pytest.CaptureFixture[str], context_id: int
) -> None:
    request = bytearray(associate_request())
    request[request.index(b"\x20\x00", 74) + 4] = context_id
    with RawPeer(port) as peer:
        peer.send(bytes(request))
        assert peer.status() == ABORTED
    assert "association_broke" not in "".join(capfd.readouterr())


def test_a_command_that_is_none_ends_the_association_and_breaks_nothing(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with RawPeer(port).associate() as peer:
        peer.send(pdu(DATA, fragment(b"\xff" * 40, command=True, last=True)))
        assert peer.status() == ABORTED
    assert "association_broke" not in "".join(capfd.readouterr())


# What the log says of it


@pytest.mark.parametrize("title", [b"CT1".ljust(16, b"\0"), b" " * 16, b"CT\\1".ljust(16), b"CT\xe91".ljust(16)])
def test_a_request_that_cannot_be_read_is_logged_with_address_and_code(
    port: int, capfd: pytest.CaptureFixture[str], title: bytes
) -> None:
    request = associate_request()
    with RawPeer(port) as peer:
        peer.send(request[:26] + title + request[42:])  # PS3.8 9.3.2: the calling AE title
        assert peer.status() == ABORTED
    said = "".join(capfd.readouterr())
    assert all(word in said for word in ("association_aborted", "invalid-pdu", "127.0.0.1"))


COMMAND = pdu(
    DATA, fragment(command_set(store_command(has_data=False) | {0x0100: b"\x20\x00"}), command=True, last=True)
)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (struct.pack(">BxL", DATA, 2**16 + 1), "pdu-too-long"),
        (COMMAND, "invalid-message"),
        (pdu(DATA, b"no items"), "invalid-message"),
        (struct.pack(">BxL", 8, 0), "invalid-pdu"),
        (associate_request(), "invalid-pdu"),
        (b"", "timeout"),
        (struct.pack(">BxL", DATA, 1000), "timeout"),
    ],
    ids=["too long", "C-FIND", "no items", "of no type", "a second request", "nothing", "a part of a PDU"],
)
def test_an_association_that_hilum_aborts_is_logged_with_titles_address_and_code(
    port: int, capfd: pytest.CaptureFixture[str], sent: bytes, code: str
) -> None:
    with RawPeer(port, patience_seconds=20).associate() as peer:
        peer.send(sent)
        assert peer.status() in ENDED
    said = "".join(capfd.readouterr())
    assert all(word in said for word in ("association_aborted", code, "FUZZ", "HILUM", "127.0.0.1"))
    assert said.count("association_aborted") == 1


@pytest.mark.parametrize("end", ["released", "aborted", "gone"])
def test_an_association_that_its_peer_ends_is_not_logged_as_aborted(
    port: int, capfd: pytest.CaptureFixture[str], end: str
) -> None:
    with RawPeer(port).associate() as peer:
        assert peer.store(store_command(), encoded(data_set())) == 0x0000
        if end != "gone":
            peer.send(pdu(RELEASE_RQ if end == "released" else ABORT, bytes(4)))
            assert peer.receive()[0] in (RELEASE_RP, 0)
    time.sleep(0.2)
    assert "association_aborted" not in "".join(capfd.readouterr())


# What breaks


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_association_that_breaks_is_aborted_though_the_log_breaks_too(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.receive.reactor.log", None)
    with RawPeer(port, patience_seconds=10).associate() as peer:
        monkeypatch.setattr("dicom_node.receive.reactor.read_command", lambda *_: 1 / 0)
        assert peer.store(store_command(), encoded(data_set())) == ABORTED
