"""Receiving, over real sockets: what is stored, what is answered, and what is recorded."""

from __future__ import annotations

import copy
import hashlib
import os
import socket
import sqlite3
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time
from sqlalchemy import Engine, event

from dicom_node.dispatch.jobs import Jobs
from dicom_node.receive.server import PromptServer
from dicom_node.record.schema import associations, instances, studies
from dicom_node.settings import JobSettings
from dicom_node.study import Ending, JobState, Priority
from tests.dicom_node.receiving import associated, data_set, encoded, listening, send, send_bytes, stored_files
from tests.dicom_node.recording import claimed, make_job, results_of, rows
from tests.factories import ct_series
from tests.services import dcmtk, wait_until

# pydicom warns of the odd values that these tests send on purpose.
pytestmark = [pytest.mark.node, pytest.mark.filterwarnings("ignore::UserWarning")]

HU = np.arange(2 * 16 * 16, dtype=np.int16).reshape(2, 16, 16)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def port(sqlite_record: Engine, storage: Path) -> Iterator[int]:
    with listening(sqlite_record, storage) as port:
        yield port


@pytest.fixture
def ct(tmp_path: Path) -> pydicom.FileDataset:
    return pydicom.dcmread(ct_series(tmp_path / "sent", HU)[0])


# Answering


@pytest.mark.parametrize("called", ["HILUM", "HILUM_STAT"])
def test_c_echo_is_answered_and_leaves_no_trace(port: int, sqlite_record: Engine, called: str) -> None:
    with associated(port, (Verification, ImplicitVRLittleEndian), called=called) as association:
        assert association.send_c_echo().Status == 0x0000
    assert rows(sqlite_record, associations) == []


def test_what_is_stored_is_what_was_sent(
    port: int, sqlite_record: Engine, storage: Path, ct: pydicom.FileDataset
) -> None:
    assert send(port, ct) == [0x0000]
    (path,) = stored_files(storage)
    (row,) = rows(sqlite_record, instances)
    assert row["path"] == str(path)
    assert row["size_bytes"] == len(data := path.read_bytes()[data_set_offset(path) :])
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    read = pydicom.dcmread(path)
    assert read == ct
    assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read.file_meta.SourceApplicationEntityTitle == "SENDER"


def data_set_offset(path: Path) -> int:
    """Return the offset of the data set, which follows the file meta information (PS3.10 7.1)."""
    (length,) = struct.unpack("<L", path.read_bytes()[140:144])
    return 144 + int(length)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
def test_each_transfer_syntax_is_kept_as_it_came(port: int, storage: Path, tmp_path: Path, syntax: str) -> None:
    sent = pydicom.dcmread(ct_series(tmp_path / "sent", HU, transfer_syntax=syntax)[0])
    assert send(port, sent) == [0x0000]
    read = pydicom.dcmread(stored_files(storage)[0])
    assert read.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read.pixel_array, sent.pixel_array)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, JPEGLosslessSV1, JPEG2000Lossless])
def test_syntaxes_that_only_others_write_are_negotiated(port: int, syntax: str) -> None:
    with associated(port, (CTImageStorage, syntax)) as association:
        assert association.accepted_contexts[0].transfer_syntax == [syntax]


@pytest.mark.data
def test_one_slice_in_each_real_encoding_is_stored(port: int, storage: Path, shared_data: Path) -> None:
    folder = shared_data / "odd-dicom" / "transfer-syntaxes"
    objects = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if "_" in path.name]
    assert [send(port, ds) for ds in objects] == [[0x0000]] * 15
    read = [pydicom.dcmread(path) for path in stored_files(storage)]
    assert sorted(str(ds.file_meta.TransferSyntaxUID) for ds in read) == sorted(
        str(ds.file_meta.TransferSyntaxUID) for ds in objects
    )


@pytest.mark.data
@pytest.mark.parametrize("folder", ["invalid-uids", "scout-and-dose", "not-ct", "missing-slice", "gantry-tilt"])
def test_real_oddities_are_taken_and_the_node_goes_on(
    port: int, shared_data: Path, folder: str, ct: pydicom.FileDataset
) -> None:
    objects = [
        pydicom.dcmread(path) for path in sorted((shared_data / "odd-dicom" / folder).rglob("*")) if path.is_file()
    ]
    for ds in objects:
        ds.SOPInstanceUID = ds.SOPInstanceUID or generate_uid()  # without one there is no C-STORE (PS3.7 9.1.1.1)
    assert set(send(port, *objects)) == {0x0000}
    assert send(port, ct) == [0x0000]


@pytest.mark.parametrize("sop_class", [MRImageStorage, SegmentationStorage, ComprehensiveSRStorage])
def test_other_storage_classes_are_taken_and_recorded(
    port: int, sqlite_record: Engine, ct: pydicom.FileDataset, sop_class: UID
) -> None:
    ct.SOPClassUID = sop_class
    assert send(port, ct) == [0x0000]
    assert rows(sqlite_record, instances)[0]["sop_class_uid"] == sop_class


@pytest.mark.peer
def test_dcmtk_sends_a_series(port: int, storage: Path, sqlite_record: Engine, tmp_path: Path) -> None:
    ct_series(tmp_path / "sent", np.zeros((20, 64, 64), np.int16))
    command = [dcmtk("storescu"), "-aet", "DCMTK", "-aec", "HILUM", "+sd", "127.0.0.1", str(port), tmp_path / "sent"]
    subprocess.run(command, check=True, timeout=60)
    assert len(stored_files(storage)) == 20
    (association,) = rows(sqlite_record, associations)
    assert (association["calling_ae_title"], association["called_ae_title"]) == ("DCMTK", "HILUM")


# How the record takes in an instance


def test_the_same_bytes_again_are_taken_and_kept_once(
    port: int, storage: Path, sqlite_record: Engine, ct: pydicom.FileDataset
) -> None:
    assert send(port, ct) + send(port, ct) == [0x0000, 0x0000]
    assert len(stored_files(storage)) == len(rows(sqlite_record, instances)) == 1


def test_other_bytes_under_the_same_uid_are_kept_aside(
    port: int, storage: Path, sqlite_record: Engine, ct: pydicom.FileDataset
) -> None:
    send(port, ct)
    ct.PatientComments = "changed"
    assert send(port, ct) == [0x0000]
    assert len(stored_files(storage)) == 2
    assert [row["conflicts"] for row in rows(sqlite_record, instances)] == [False, True]
    assert rows(sqlite_record, studies)[0]["conflicting"]


def test_our_own_result_coming_back_is_taken_and_not_kept(
    port: int, storage: Path, sqlite_record: Engine, ct: pydicom.FileDataset
) -> None:
    queue = Jobs(sqlite_record, JobSettings())
    job = claimed(queue, make_job(sqlite_record))
    queue.finish(job, Ending(JobState.DONE), results_of(), [])
    before = len(rows(sqlite_record, instances))
    ct.SOPClassUID, ct.SOPInstanceUID = SegmentationStorage, results_of()[0].sop_instance_uid
    assert send(port, ct) == [0x0000]
    assert stored_files(storage) == []
    assert len(rows(sqlite_record, instances)) == before


@pytest.mark.parametrize(("called", "priority"), [("HILUM", Priority.ROUTINE), ("HILUM_STAT", Priority.STAT)])
def test_the_called_ae_title_decides_over_the_priority(
    port: int, sqlite_record: Engine, ct: pydicom.FileDataset, called: str, priority: Priority
) -> None:
    send(port, ct, called=called)
    assert rows(sqlite_record, studies)[0]["priority"] == priority
    assert rows(sqlite_record, associations)[0]["called_ae_title"] == called


# Associations


@pytest.mark.parametrize("end", ["release", "abort", "vanish"])
def test_an_association_ends_in_the_record_however_it_ends(
    port: int, sqlite_record: Engine, ct: pydicom.FileDataset, end: str
) -> None:
    with associated(port, patience_seconds=0.5) as association:
        association.send_c_store(ct)
        assert rows(sqlite_record, associations)[0]["closed_at"] is None
        if end == "vanish":
            assert association.dul.socket is not None
            assert association.dul.socket.socket is not None
            association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        else:
            getattr(association, end)()
    wait_until(lambda: rows(sqlite_record, associations)[0]["closed_at"], "the end of the association")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # in the sender's thread
def test_a_sender_that_breaks_off_in_a_data_set_leaves_nothing(
    port: int, storage: Path, sqlite_record: Engine, ct: pydicom.FileDataset
) -> None:
    ct.PixelData = bytes(4 * 2**20)
    with associated(port, patience_seconds=0.5) as association:
        assert association.dul.socket is not None
        raw = association.dul.socket.socket
        assert raw is not None
        send_one, sent = raw.send, 0

        def break_off(data: bytes) -> int:
            nonlocal sent
            sent += 1
            if sent > 2:
                raw.shutdown(socket.SHUT_RDWR)
            return send_one(data)

        association.dul.socket.send = break_off  # type: ignore[method-assign,assignment]  # as if a cable were pulled
        association.send_c_store(ct)
    time.sleep(0.2)
    assert rows(sqlite_record, instances) == []
    wait_until(lambda: stored_files(storage) == [], "the remains to be cleared away")


def test_many_senders_at_once_lose_nothing(port: int, sqlite_record: Engine, tmp_path: Path) -> None:
    studies_sent = [
        [pydicom.dcmread(path) for path in ct_series(tmp_path / str(number), np.repeat(HU, 5, axis=0))]
        for number in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = [status for sent in pool.map(lambda objects: send(port, *objects), studies_sent) for status in sent]
    assert answers == [0x0000] * 80
    assert len(rows(sqlite_record, instances)) == 80
    assert len(rows(sqlite_record, studies)) == 8


def test_more_associations_than_allowed_are_turned_away(sqlite_record: Engine, storage: Path) -> None:
    with listening(sqlite_record, storage, maximum_associations=1) as port, associated(port):
        ae = AE("SECOND")
        ae.add_requested_context(CTImageStorage)
        refused = ae.associate("127.0.0.1", port, ae_title="HILUM")
        assert refused.acceptor.primitive.reason_str == "Local limit exceeded"


def test_fifty_peers_that_come_at_once_are_connected_before_any_is_accepted(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, accept = threading.Event(), PromptServer.get_request

    def accept_later(server: PromptServer) -> tuple[socket.socket, tuple[str, int]]:
        busy.wait(60)
        return accept(server)

    monkeypatch.setattr(PromptServer, "get_request", accept_later)
    with ExitStack() as peers:
        peers.callback(busy.set)
        # The system drops connections beyond those that may wait; they are tried again a second later.
        for _ in range(50):
            peers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.9))


class Beginning(threading.Thread):
    """A thread that is being started: `threading.enumerate` lists it, but it cannot be joined yet."""

    was_stopped = False

    def stop(self) -> None:
        self.was_stopped = True


def test_a_node_stops_though_an_association_is_just_beginning(
    sqlite_record: Engine, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning = Beginning()
    listed = property(lambda _: [] if beginning.was_stopped else [beginning])
    with listening(sqlite_record, storage):
        monkeypatch.setattr(PromptServer, "active_associations", listed)
    assert beginning.was_stopped


# Refusals


def test_an_object_that_is_not_what_the_command_says_does_not_match(port: int, storage: Path) -> None:
    assert send_bytes(port, encoded(data_set()), sop="1.2.3.5") == 0xA900
    assert send_bytes(port, encoded(data_set(SOPClassUID=MRImageStorage))) == 0xA900
    assert stored_files(storage) == []


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_without_its_uids_cannot_be_understood(port: int, storage: Path, keyword: str) -> None:
    ds = data_set()
    delattr(ds, keyword)
    assert send_bytes(port, encoded(ds)) & 0xF000 == 0xC000
    assert stored_files(storage) == []


@pytest.mark.parametrize(
    ("data", "syntax"),
    [
        (b"not DICOM at all", ImplicitVRLittleEndian),
        (b"\x08\x00\x16\x00\xff\xff\xff\x7f1.2", ImplicitVRLittleEndian),
        (encoded(data_set())[:30], ImplicitVRLittleEndian),
        (b"\xff" * 100, ImplicitVRLittleEndian),
        (b"not deflated", DeflatedExplicitVRLittleEndian),
        (b"\x08\x00\x06\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000, ImplicitVRLittleEndian),
    ],
    ids=["text", "length beyond the end", "cut off", "ones", "not deflated", "nested without end"],
)
def test_bytes_that_are_no_data_set_cannot_be_understood(port: int, storage: Path, data: bytes, syntax: str) -> None:
    assert send_bytes(port, data, syntax=syntax) & 0xF000 == 0xC000
    assert stored_files(storage) == []


@pytest.mark.parametrize("uid", ["1" * 65, "1.2\x003", "1\\2"])
def test_a_uid_that_no_record_can_hold_cannot_be_understood(port: int, storage: Path, uid: str) -> None:
    data = encoded(data_set()).replace(b"\x20\x00\x0d\x00\x06\x00\x00\x001.2.3\x00", b"")
    value = uid.encode() + b"\0" * (len(uid) % 2)
    element = b"\x20\x00\x0d\x00" + struct.pack("<L", len(value)) + value
    at = data.index(b"\x20\x00\x0e\x00")
    assert send_bytes(port, data[:at] + element + data[at:]) & 0xF000 == 0xC000
    assert stored_files(storage) == []


@pytest.mark.parametrize("uid", ["../../../../escaped", "/tmp/escaped", "..", ".", "1/../../2"])  # noqa: S108 - hostile on purpose
def test_a_uid_that_is_a_path_stays_in_the_storage_folder(port: int, storage: Path, tmp_path: Path, uid: str) -> None:
    data = encoded(data_set(StudyInstanceUID=uid, SeriesInstanceUID=uid, SOPInstanceUID=uid))
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(storage) and "sqlite3" not in path.name}
    assert send_bytes(port, data, sop=uid) == 0x0000
    (path,) = stored_files(storage)
    assert path.parents[3] == storage
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(storage) and "sqlite3" not in path.name}
    assert after == before


def test_a_deflate_bomb_is_stored_without_being_inflated(port: int, storage: Path, tmp_path: Path) -> None:
    """The sender asked us to keep it, and deflated it takes only a few bytes."""
    ds = pydicom.dcmread(ct_series(tmp_path / "sent", HU, transfer_syntax=DeflatedExplicitVRLittleEndian)[0])
    ds.PixelData = bytes(64 * 2**20)
    assert send(port, ds) == [0x0000]
    assert stored_files(storage)[0].stat().st_size < 2**20


def test_refused_bytes_do_not_end_the_association(port: int, ct: pydicom.FileDataset) -> None:
    with associated(port) as association:
        del ct.StudyInstanceUID
        assert association.send_c_store(ct).Status & 0xF000 == 0xC000
        ct.StudyInstanceUID = "1.2.3"
        assert association.send_c_store(ct).Status == 0x0000


# Out of resources


def test_a_full_disk_is_out_of_resources_and_the_sender_can_try_again(
    port: int, storage: Path, sqlite_record: Engine, ct: pydicom.FileDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert send(port, ct) == [0xA700]
    assert rows(sqlite_record, instances) == []
    assert stored_files(storage) == []
    assert send(port, ct) == [0x0000]


def test_a_storage_that_cannot_be_written_is_out_of_resources(
    port: int, storage: Path, sqlite_record: Engine, ct: pydicom.FileDataset
) -> None:
    if storage.exists():
        storage.rename(storage.with_name("unmounted"))
    storage.write_text("a file where the folder should be")
    assert send(port, ct) == [0xA700]
    assert rows(sqlite_record, instances) == []


@pytest.mark.parametrize("is_mount_point", [True, False])
def test_where_the_storage_was_taken_away_nothing_is_stored_until_it_is_back(
    port: int, storage: Path, sqlite_record: Engine, ct: pydicom.FileDataset, is_mount_point: bool
) -> None:
    assert send(port, ct) == [0x0000]
    storage.rename(storage.with_name("unmounted"))
    if is_mount_point:
        storage.mkdir()
    of_same_study, of_another = copy.deepcopy(ct), copy.deepcopy(ct)
    of_same_study.SOPInstanceUID, of_another.SOPInstanceUID = "1.2.9.1", "1.2.9.2"
    of_another.StudyInstanceUID = "1.2.9"
    assert send(port, ct, of_same_study, of_another) == [0xA700] * 3
    assert list(storage.rglob("*")) == []
    assert storage.exists() is is_mount_point
    assert len(rows(sqlite_record, instances)) == 1
    if is_mount_point:
        storage.rmdir()
    storage.with_name("unmounted").rename(storage)
    assert send(port, ct, of_same_study, of_another) == [0x0000] * 3


def test_a_record_that_is_locked_is_out_of_resources(port: int, sqlite_record: Engine, ct: pydicom.FileDataset) -> None:
    sqlite_record.dispose()
    event.listen(sqlite_record, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=100"))
    other = sqlite3.connect(str(sqlite_record.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert send(port, ct) == [0xA700]
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert send(port, ct) == [0x0000]


# Privacy


def test_what_is_stored_is_closed_to_other_users(port: int, storage: Path, ct: pydicom.FileDataset) -> None:
    send(port, ct)
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in storage.rglob("*")}
    assert modes == {True: 0o700, False: 0o600}


def test_no_patient_and_no_file_is_even_handed_to_the_log(
    port: int, ct: pydicom.FileDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    ct.PatientName, ct.PatientID = "Wolkenstein^Adalbert", "TELLING-ID"
    send(port, ct)
    send(port, ct)
    said = "".join(capfd.readouterr())
    assert "instance_known" in said
    assert "Wolkenstein" not in said
    assert "TELLING-ID" not in said
    assert ".dcm" not in said
