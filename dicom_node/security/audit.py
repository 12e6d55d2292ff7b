"""The audit trail: DICOM audit messages (PS3.15 A.5) on what security officers ask about, sent by syslog."""

from __future__ import annotations

import ipaddress
import platform
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from dicom_node.headers import read_text
from dicom_node.security.syslog import Syslog
from dicom_node.security.tls import client_context
from dicom_node.settings import Settings
from dicom_node.study import Association, Instance

MESSAGE_ID = "DICOM+RFC3881"
"""PS3.15 A.6."""
CLOSING_SECONDS = 5.0
LONGEST_PATIENT_ID = 64
"""In characters, as for VR LO (PS3.5 6.2); a longer one could make a message too long for a datagram."""
NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, and peers may send."""
SUCCESS, MINOR_FAILURE = "0", "4"
CREATE, READ, EXECUTE = "C", "R", "E"


@dataclass(frozen=True)
class Code:
    """A code with its coding scheme; most are from PS3.16."""

    value: str
    meaning: str
    scheme: str = "DCM"


APPLICATION_ACTIVITY = Code("110100", "Application Activity")
BEGIN_TRANSFERRING = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
SECURITY_ALERT = Code("110113", "Security Alert")
APPLICATION_START = Code("110120", "Application Start")
APPLICATION_STOP = Code("110121", "Application Stop")
NODE_AUTHENTICATION = Code("110126", "Node Authentication")
APPLICATION = Code("110150", "Application")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")
STUDY = Code("110180", "Study Instance UID")
PATIENT = Code("2", "Patient Number", "RFC-3881")


@dataclass(frozen=True)
class Participant:
    """An application that took part: its AE title, or the URL of a DICOMweb service, and its address."""

    ae_title: str
    address: str
    is_requestor: bool = False


@dataclass
class Transfer:
    """Instances of one study that go from one application to another, counted by SOP class."""

    study_instance_uid: str
    patient_id: str
    sop_classes: Counter[str] = field(default_factory=Counter)


def patient_id_of(path: Path) -> str:
    """Return the Patient ID in a stored object, cut to the permitted length; empty if it cannot be read."""
    return read_text(path, "PatientID")[:LONGEST_PATIENT_ID]


class AuditTrail:
    """Sends audit messages, if the settings name a receiver."""

    def __init__(self, settings: Settings) -> None:
        audit = settings.audit
        tls = client_context(settings.tls) if audit.protocol == "tls" else None
        self._syslog = Syslog(audit, tls) if audit.url else None
        self._ae_title = settings.node.ae_title

    @property
    def is_kept(self) -> bool:
        """Whether the settings name a receiver."""
        return self._syslog is not None

    def close(self) -> None:
        """Send the messages that still wait, within a time limit."""
        if self._syslog:
            self._syslog.close(CLOSING_SECONDS)

    def hilum(self, *, is_requestor: bool = False) -> Participant:
        """Return Hilum itself as a participant."""
        return Participant(self._ae_title, platform.node(), is_requestor)

    def started(self) -> None:
        """Report that an application of Hilum started (A.5.3.1)."""
        self._tell(APPLICATION_ACTIVITY, EXECUTE, {APPLICATION: self.hilum()}, kind=APPLICATION_START)

    def stopped(self) -> None:
        """Report that an application of Hilum stopped (A.5.3.1)."""
        self._tell(APPLICATION_ACTIVITY, EXECUTE, {APPLICATION: self.hilum()}, kind=APPLICATION_STOP)

    def refused(self, peer: Participant, why: str) -> None:
        """Report by a security alert that a peer was refused (A.5.3.11)."""
        participants = {APPLICATION: self.hilum(), None: peer}
        self._tell(SECURITY_ALERT, EXECUTE, participants, kind=NODE_AUTHENTICATION, outcome=MINOR_FAILURE, why=why)

    def beginning(self, source: Participant, destination: Participant, transfer: Transfer) -> None:
        """Report that instances are about to be sent (A.5.3.3)."""
        self._tell(BEGIN_TRANSFERRING, EXECUTE, {SOURCE: source, DESTINATION: destination}, transfer=transfer)

    def sent(self, source: Participant, destination: Participant, transfer: Transfer, *, why: str = "") -> None:
        """Report that instances were sent (A.5.3.7), or were not, for the reason in ``why``.

        The action is "read", because the sender does not know which instances the receiver already held. Instances of
        one event that were sent and those that were not are reported in separate messages (A.5.2).
        """
        outcome = MINOR_FAILURE if why else SUCCESS
        participants = {SOURCE: source, DESTINATION: destination}
        self._tell(INSTANCES_TRANSFERRED, READ, participants, transfer=transfer, outcome=outcome, why=why)

    def received(self, source: Participant, destination: Participant, transfer: Transfer) -> None:
        """Report that instances were received and stored (A.5.3.7)."""
        self._tell(INSTANCES_TRANSFERRED, CREATE, {SOURCE: source, DESTINATION: destination}, transfer=transfer)

    def _tell(
        self,
        event: Code,
        action: str,
        participants: dict[Code, Participant] | dict[Code | None, Participant],
        *,
        kind: Code | None = None,
        transfer: Transfer | None = None,
        outcome: str = SUCCESS,
        why: str = "",
    ) -> None:
        if not self._syslog:
            return
        message = Element("AuditMessage")
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        attributes = {"EventActionCode": action, "EventDateTime": time, "EventOutcomeIndicator": outcome}
        identification = SubElement(message, "EventIdentification", attributes)
        add_code(identification, "EventID", event)
        if kind:
            add_code(identification, "EventTypeCode", kind)
        if why:
            SubElement(identification, "EventOutcomeDescription").text = why
        for role, participant in participants.items():
            add_participant(message, participant, role)
        SubElement(message, "AuditSourceIdentification", AuditSourceID=self._ae_title)
        if transfer:
            add_study(message, transfer)
            add_patient(message, transfer)
        self._syslog.send(MESSAGE_ID, NOT_IN_XML.sub("?", tostring(message, "unicode")))


class Receipts:
    """Collects what each association brings, and reports it to the audit trail when the association ends."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail
        self._open: dict[str, dict[str, tuple[Counter[str], Path]]] = {}

    def note(self, association: Association, instance: Instance) -> None:
        """Count an instance that was kept; needs no lock, as an association brings its instances one after another."""
        if self._trail.is_kept:
            studies = self._open.setdefault(association.association_id, {})
            sop_classes, _ = studies.get(instance.study_instance_uid, (Counter[str](), instance.path))
            sop_classes[instance.sop_class_uid] += 1
            studies[instance.study_instance_uid] = sop_classes, instance.path

    def tell(self, association: Association) -> None:
        """Report what an association brought, in one message for each study."""
        source = Participant(association.calling_ae_title, association.peer_address, is_requestor=True)
        for study, (sop_classes, path) in self._open.pop(association.association_id, {}).items():
            self._trail.received(source, self._trail.hilum(), Transfer(study, patient_id_of(path), sop_classes))


def add_code(parent: Element, tag: str, code: Code) -> None:
    """Add a coded value."""
    attributes = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    SubElement(parent, tag, attributes)


def add_participant(message: Element, participant: Participant, role: Code | None) -> None:
    """Add an active participant."""
    attributes = {"UserID": participant.ae_title, "UserIsRequestor": str(participant.is_requestor).lower()}
    if participant.address:
        kind = "2" if is_ip_address(participant.address) else "1"
        attributes |= {"NetworkAccessPointID": participant.address, "NetworkAccessPointTypeCode": kind}
    element = SubElement(message, "ActiveParticipant", attributes)
    if role:
        add_code(element, "RoleIDCode", role)


def is_ip_address(address: str) -> bool:
    """Whether an address is an IP address, not a host name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def add_study(message: Element, transfer: Transfer) -> None:
    """Add a study with the SOP classes of the transferred instances."""
    uid = transfer.study_instance_uid
    study = add_object(message, uid, STUDY, uid, kind="2", role="3")
    if transfer.sop_classes:
        description = SubElement(study, "ParticipantObjectDescription")
        for sop_class, count in sorted(transfer.sop_classes.items()):
            SubElement(description, "SOPClass", UID=sop_class, NumberOfInstances=str(count))


def add_patient(message: Element, transfer: Transfer) -> None:
    """Add a patient by Patient ID alone."""
    add_object(message, transfer.patient_id, PATIENT, "", kind="1", role="1")


def add_object(message: Element, identifier: str, code: Code, name: str, *, kind: str, role: str) -> Element:
    """Add an object that was acted upon; the schema requires a name."""
    attributes = {
        "ParticipantObjectID": identifier,
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
    }
    element = SubElement(message, "ParticipantObjectIdentification", attributes)
    add_code(element, "ParticipantObjectIDTypeCode", code)
    SubElement(element, "ParticipantObjectName").text = name
    return element
