"""The audit trail as a syslog receiver gets it, over real sockets."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian
from sqlalchemy import Engine

from dicom_node.pacs import SmallPACS
from dicom_node.security.audit import AuditTrail, Participant, Transfer, patient_id_of
from dicom_node.security.syslog import Syslog
from dicom_node.settings import AuditSettings, Destination, Settings, TLSSettings, WebDestination
from tests.certificates import make_authority
from tests.dicom_node.delivering import deliverer_of
from tests.dicom_node.dicomweb import Answer, Post, response, service, take_all
from tests.dicom_node.hilum_node import hilum_node
from tests.dicom_node.raw import ABORTED, RawPeer, pdu
from tests.dicom_node.receiving import associated, listening, send
from tests.dicom_node.syslog import SyslogReceiver, syslog_receiver
from tests.factories import ct_series
from tests.services import free_port, wait_until

pytestmark = pytest.mark.node


def settings_for(receiver: SyslogReceiver, **others: Any) -> Settings:
    return Settings(audit=AuditSettings(url=receiver.url), **others)


def participants(message: Element) -> dict[str | None, tuple[str | None, str | None]]:
    """Return user ID (an AE title) and network address of each participant, by role."""
    found = {}
    for participant in message.iter("ActiveParticipant"):
        role = participant.find("RoleIDCode")
        place = (participant.get("UserID"), participant.get("NetworkAccessPointID"))
        found[role.get("csd-code") if role is not None else None] = place
    return found


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_start_and_stop_of_a_node_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    with syslog_receiver(protocol) as receiver:
        monkeypatch.setenv("HILUM_AUDIT__URL", receiver.url)
        with hilum_node(tmp_path) as node:
            wait_until(lambda: receiver.messages("110100"), "the start")
            node.process.terminate()
            node.process.wait(20)
        told = wait_until(lambda: len(receiver.raw) == 2 and receiver.messages("110100"), "the stop")
    kinds = [message.find("EventIdentification/EventTypeCode").get("csd-code") for message in told]
    assert kinds == ["110120", "110121"]


def test_a_refused_association_is_a_security_alert(sqlite_record: Engine, tmp_path: Path) -> None:
    with syslog_receiver("udp") as receiver:
        trail = AuditTrail(settings_for(receiver))
        refused = pytest.raises(AssertionError)
        with listening(sqlite_record, tmp_path, trail=trail) as port, refused, associated(port, called="ELSEWHERE"):
            pass
        (told,) = wait_until(lambda: receiver.messages("110113"), "the alert")
    event = told.find("EventIdentification")
    assert event.get("EventOutcomeIndicator") == "4"
    assert event.findtext("EventOutcomeDescription") == "called-ae-title"
    assert participants(told)[None] == ("SENDER", "127.0.0.1")


def test_an_association_that_is_aborted_before_it_is_established_is_a_security_alert_and_none_later(
    sqlite_record: Engine, tmp_path: Path
) -> None:
    with syslog_receiver("udp") as receiver:
        trail = AuditTrail(settings_for(receiver))
        with listening(sqlite_record, tmp_path, trail=trail) as port:
            with RawPeer(port).associate() as peer:
                peer.send(pdu(8, b""))
                assert peer.status() == ABORTED
            with RawPeer(port) as peer:
                peer.send(pdu(8, b""))
                assert peer.status() == ABORTED
        (told,) = wait_until(lambda: receiver.messages("110113"), "the alert")
    assert told.findtext("EventIdentification/EventOutcomeDescription") == "invalid-pdu"
    assert participants(told)[None] == ("", "127.0.0.1")


def test_what_an_association_brought_is_told_study_by_study(sqlite_record: Engine, tmp_path: Path) -> None:
    first, second = (
        [pydicom.dcmread(path) for path in ct_series(tmp_path / name, np.zeros((count, 8, 8), np.int16))]
        for name, count in (("a", 2), ("b", 3))
    )
    with syslog_receiver("udp") as receiver:
        trail = AuditTrail(settings_for(receiver))
        with listening(sqlite_record, tmp_path / "storage", trail=trail) as port:
            send(port, *first, *second, first[0])
        told = wait_until(lambda: len(receiver.raw) == 2 and receiver.messages("110104"), "the receipts")
    studies = [message.findall("ParticipantObjectIdentification")[0] for message in told]
    assert {study.get("ParticipantObjectID") for study in studies} == {
        first[0].StudyInstanceUID,
        second[0].StudyInstanceUID,
    }
    assert sorted(study.find(".//SOPClass").get("NumberOfInstances") for study in studies) == ["2", "3"]
    for message in told:
        assert participants(message)["110153"] == ("SENDER", "127.0.0.1")
        assert message.find("EventIdentification").get("EventActionCode") == "C"
        patient = message.findall("ParticipantObjectIdentification")[1]
        assert patient.get("ParticipantObjectID") == "SYNTHETIC-1"


def test_other_bytes_under_a_uid_that_is_known_are_told_too(sqlite_record: Engine, tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path / "sent", np.zeros((1, 8, 8), np.int16))
    first, other = pydicom.dcmread(path), pydicom.dcmread(path)
    other.PatientID = "SYNTHETIC-2"
    with syslog_receiver("tcp") as receiver:
        trail = AuditTrail(settings_for(receiver))
        with listening(sqlite_record, tmp_path / "storage", trail=trail) as port:
            send(port, first)
            send(port, other)
        told = wait_until(lambda: len(receiver.raw) == 2 and receiver.messages("110104"), "the receipts")
        trail.close()
    patients = [message.findall("ParticipantObjectIdentification")[1] for message in told]
    assert [patient.get("ParticipantObjectID") for patient in patients] == ["SYNTHETIC-1", "SYNTHETIC-2"]


def test_what_is_sent_is_told_before_and_after(tmp_path: Path, delivery: Callable[..., Engine]) -> None:
    with syslog_receiver("udp") as receiver, SmallPACS(tmp_path / "pacs") as pacs:
        peer = Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        settings = settings_for(receiver, destinations=(peer,))
        trail = AuditTrail(settings)
        deliverer_of(delivery("PACS"), settings, trail).deliver(peer, threading.Event())
        trail.close()
        (begun,) = wait_until(lambda: receiver.messages("110102"), "the beginning")
        (ended,) = wait_until(lambda: receiver.messages("110104"), "the end")
    assert participants(begun) == participants(ended)
    assert participants(ended)["110152"] == ("PACS", "127.0.0.1")
    assert ended.find("EventIdentification").get("EventOutcomeIndicator") == "0"
    assert ended.find(".//SOPClass").get("NumberOfInstances") == "1"


def test_a_dicomweb_service_is_told_by_its_url(delivery: Callable[..., Engine]) -> None:
    with syslog_receiver("udp") as receiver, service() as peer:
        destination = WebDestination(name="PACS", url=peer.url)
        settings = settings_for(receiver, destinations=(destination,))
        trail = AuditTrail(settings)
        deliverer_of(delivery("PACS"), settings, trail).deliver(destination, threading.Event())
        trail.close()
        (ended,) = wait_until(lambda: receiver.messages("110104"), "the end")
    assert participants(ended)["110152"] == (peer.url, "127.0.0.1")


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ({2}, [("0", None, "2"), ("4", "1 of 3 instances were not taken", "1")]),
        ({1, 2, 3}, [("4", "3 of 3 instances were not taken", "3")]),
    ],
)
def test_what_was_taken_and_what_was_not_are_told_apart(
    delivery: Callable[..., Engine], refused: set[int], told: list[tuple[str, str | None, str]]
) -> None:
    def answer(post: Post) -> Answer:
        (ds,) = post.data_sets
        return (409, response(post, failure=0xC000)) if ds.InstanceNumber in refused else take_all(post)

    with syslog_receiver("tcp") as receiver, service(answer) as peer:
        destination = WebDestination(name="PACS", url=peer.url)
        settings = settings_for(receiver, destinations=(destination,))
        trail = AuditTrail(settings)
        deliverer_of(delivery("PACS", 3), settings, trail).deliver(destination, threading.Event())
        trail.close()
        ended = wait_until(lambda: len(receiver.raw) == 1 + len(told) and receiver.messages("110104"), "the ends")
    assert [
        (
            message.find("EventIdentification").get("EventOutcomeIndicator"),
            message.findtext("EventIdentification/EventOutcomeDescription"),
            message.find(".//SOPClass").get("NumberOfInstances"),
        )
        for message in ended
    ] == told


@pytest.fixture
def delivery(sqlite_record: Engine, tmp_path: Path) -> Callable[..., Engine]:
    """Return a function that records results to be sent to a destination, and returns the record."""
    from dicom_node.dispatch.jobs import Jobs
    from dicom_node.settings import JobSettings
    from dicom_node.study import Ending, JobState, Result
    from tests.dicom_node.recording import claimed, make_job

    def made(destination: str, count: int = 1) -> Engine:
        paths = ct_series(tmp_path / "result", np.zeros((count, 8, 8), np.int16))
        jobs = Jobs(sqlite_record, JobSettings())
        job = claimed(jobs, make_job(sqlite_record))
        results = [
            Result(ds.SOPInstanceUID, ds.SOPClassUID, ds.file_meta.TransferSyntaxUID, "seg", path)
            for path, ds in ((path, pydicom.dcmread(path)) for path in paths)
        ]
        assert jobs.finish(job, Ending(JobState.DONE), results, [destination])
        return sqlite_record

    return made


def test_messages_go_over_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    theirs, ours = authority.sign("receiver"), authority.settings(authority.sign("hilum"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(theirs.certificate, theirs.key)
    tls.load_verify_locations(authority.certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    with syslog_receiver("tls", tls=tls) as receiver:
        trail = AuditTrail(settings_for(receiver, tls=ours))
        trail.started()
        trail.stopped()
        trail.close()
        wait_until(lambda: len(receiver.messages("110100")) == 2, "both messages")


def test_messages_wait_for_a_receiver_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.security.syslog.RETRY_SECONDS", 0.05)
    port = free_port()
    trail = AuditTrail(Settings(audit=AuditSettings(url=f"tcp://127.0.0.1:{port}")))
    trail.started()
    with syslog_receiver("tcp", port=port) as receiver:
        wait_until(lambda: receiver.messages("110100"), "the first message")
    trail.stopped()
    with syslog_receiver("tcp", port=port) as receiver:
        wait_until(lambda: receiver.messages("110100"), "the message after a restart")
        trail.close()


def test_ten_thousand_messages_wait_and_what_comes_after_is_said_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[str] = []
    monkeypatch.setattr("dicom_node.security.syslog.log.warning", lambda _action, *, code="", **_: lost.append(code))
    monkeypatch.setattr("dicom_node.security.syslog.Syslog._work", lambda _: None)  # sends nothing
    syslog = Syslog(AuditSettings(url="tcp://127.0.0.1:1"), None)
    for _ in range(10_000):
        syslog.send("ID", "message")
    assert lost == []
    syslog.send("ID", "message")
    assert lost == ["queue-full"]


def test_a_message_that_no_datagram_holds_is_said_to_be_lost_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost: list[str] = []
    monkeypatch.setattr("dicom_node.security.syslog.log.warning", lambda _action, *, code="", **_: lost.append(code))
    with syslog_receiver("udp") as receiver:
        syslog = Syslog(AuditSettings(url=receiver.url), None)
        syslog.send("DICOM+RFC3881", "x" * 70_000)
        syslog.send("DICOM+RFC3881", "<next/>")
        wait_until(lambda: receiver.raw, "the next message", 4)
        assert [message.endswith(b"<next/>") for message in receiver.raw] == [True]
    assert lost == ["too-long"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_patients_number_is_told_no_longer_than_dicom_allows(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, np.zeros((1, 8, 8), np.int16), transfer_syntax=ImplicitVRLittleEndian)
    ds = pydicom.dcmread(path)
    ds.PatientID = "7" * 70_000
    ds.save_as(path)
    assert patient_id_of(path) == "7" * 64


def test_what_xml_cannot_hold_is_replaced() -> None:
    with syslog_receiver("udp") as receiver:
        trail = AuditTrail(settings_for(receiver))
        trail.received(Participant('A\x01<&">', ""), trail.hilum(), Transfer("1.2", "ä\x00\ud800"))
        (told,) = wait_until(lambda: receiver.messages("110104"), "the message")
    assert participants(told)["110153"] == ('A?<&">', None)


@pytest.mark.parametrize("url", ["syslog.example", "http://h:1", "udp://h", "tcp://h:x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        AuditSettings(url=url)


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="port of 1 to 65535"):
        AuditSettings(url=f"udp://syslog.example:{port}")


@pytest.mark.parametrize("url", ["udp://syslog..example:514", "tcp://.example:6514"])
def test_a_receiver_whose_name_can_be_none_is_waited_for(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("dicom_node.security.syslog.RETRY_SECONDS", 0.01)
    told: list[str] = []
    monkeypatch.setattr("dicom_node.security.syslog.log.warning", lambda action, **_: told.append(action))
    syslog = Syslog(AuditSettings(url=url), None)
    syslog.send("ID", "message")
    wait_until(lambda: len(told) > 1, "a second attempt", 4)
    syslog.close(1)
    assert told[:2] == ["audit_receiver_away"] * 2


def test_tls_needs_certificates() -> None:
    with pytest.raises(ValueError, match=r"audit\.url with tls"):
        Settings(audit=AuditSettings(url="tls://syslog:6514"), tls=TLSSettings())
