"""What Hilum does on the network: SOP classes, transfer syntaxes, statuses, settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel
from pydicom.charset import python_encoding
from pydicom.pixels import get_decoder
from pydicom.uid import UID
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dicom_node import statuses
from dicom_node.deliver import outgoing, stow
from dicom_node.headers import CT_STORAGE
from dicom_node.receive import part10, scp
from dicom_node.settings import Destination, Settings, WebDestination
from dicom_node.settings.names import sections_in
from tests.conformance import objects
from worker.pixels import RETIRED_JPEG

Rows = Iterator[list[str]]

SECTIONS = ("node", "tls", "delivery", "destinations", "priors", "report")
"""The sections of the settings that matter to a peer."""
SERVICES: dict[type[BaseModel], str] = {Destination: "C-STORE", WebDestination: "DICOMweb"}
"""By what each kind of destination gets results."""

REFUSED = "counts the instance as refused; sends it again only after `hilum resend` or `hilum retry`"

NEW_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
}
"""SOP classes that pydicom has no name for yet."""


def received_classes() -> Rows:
    """Every SOP class that the node accepts."""
    yield ["SOP Class", "UID", "What Hilum does with it"]
    names = {uid: NEW_CLASSES.get(uid, UID(uid).name) for uid in scp.storage_classes()}
    for uid, name in sorted(names.items(), key=lambda item: item[1]):
        what = "stores it, and measures it if it shows a chest" if uid in CT_STORAGE else "stores it"
        yield [name, uid, what]


def received_syntaxes() -> Rows:
    """Every transfer syntax that the node accepts, and whether the worker can decode its pixels."""
    yield ["Transfer Syntax", "UID", "Can be measured"]
    for uid in map(UID, scp.TRANSFER_SYNTAXES):
        yield [uid.name, str(uid), "yes" if uid in RETIRED_JPEG or is_decoded(uid) else "no"]


def is_decoded(uid: UID) -> bool:
    """Whether pydicom has a decoder, or needs none."""
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:  # pydicom raises this for a syntax without a decoder
        return not uid.is_encapsulated


def sent_classes() -> Rows:
    """Every pair of SOP class and transfer syntax in which results are sent."""
    yield ["SOP Class", "UID", "Transfer Syntax", "UID", "Role"]
    found = {(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in objects.by_kind().values()}
    for stored_as in sorted(found, key=lambda pair: UID(pair[0]).name):
        for sop_class, syntax in outgoing.Outgoing(Path(), *stored_as).contexts:
            yield [UID(sop_class).name, sop_class, UID(syntax).name, syntax, "SCU"]


def answered_statuses() -> Rows:
    """The statuses with which the node answers C-STORE."""
    yield ["Status", "Meaning", "When"]
    for status, when in (
        (statuses.SUCCESS, "the instance is synced to disk and recorded"),
        (statuses.OUT_OF_RESOURCES, "the disk is full or nearly full, or disk or record failed; send again later"),
        (statuses.DOES_NOT_MATCH_SOP_CLASS, "the SOP class or instance of the data set is not the one in the command"),
        (
            statuses.CANNOT_UNDERSTAND,
            "the data set cannot be read, lacks a UID or is larger than `node.maximum_object_bytes`",
        ),
        (statuses.PROCESSING_FAILURE, "a bug in Hilum, whose log has the details; send again later"),
        (statuses.SOP_CLASS_NOT_SUPPORTED, "the command names a different SOP class than its presentation context"),
    ):
        yield [f"{status:04X}", " ".join(STORAGE_SERVICE_CLASS_STATUS[status]).strip(), when]


def obeyed_statuses() -> Rows:
    """What Hilum does with a PACS's answer to C-STORE."""
    yield ["What Hilum does", "Statuses"]
    found: dict[str, list[str]] = {}
    for status, (category, meaning) in sorted(STORAGE_SERVICE_CLASS_STATUS.items()):
        if category == "Cancel":
            continue
        if statuses.is_success(status):
            does = "counts the instance as sent"
        elif statuses.is_passing(status):
            does = "tries again, with growing pauses"
        else:
            does = REFUSED
        shown = f"{range_of(status)} {meaning or category}"
        if shown not in found.setdefault(does, []):
            found[does].append(shown)
    yield from ([does, ", ".join(shown)] for does, shown in found.items())


def obeyed_http_statuses() -> Rows:
    """What Hilum does with a DICOMweb service's answer."""
    yield ["The answer", "What Hilum does"]
    yield ["names the instance in Referenced SOP Sequence", "counts it as sent, whatever the Warning Reason is"]
    yield ["names it in Failed SOP Sequence", "treats the Failure Reason like a status of C-STORE"]
    does = {
        outgoing.Outcome.REFUSED: REFUSED,
        outgoing.Outcome.PASSING: "tries this instance again later, and goes on with the next",
    }
    for outcome, done in does.items():
        codes = sorted(status for status, its in stow.OF_THE_OBJECT.items() if its is outcome)
        yield [f"does not name it, HTTP {', '.join(map(str, codes))}", done]
    yield ["does not name it, any other HTTP status", "tries the rest of the study again later"]


def range_of(status: int) -> str:
    """Return a status, or the range that it belongs to (PS3.4 table B.2-1)."""
    if status >= 0xC000:
        return "Cxxx"
    return f"{status >> 8:02X}xx" if status >> 8 in (0xA7, 0xA9) else f"{status:04X}"


def settings() -> Rows:
    """Every setting that matters to a peer."""
    yield ["Setting", "Default"]
    for section in SECTIONS:
        field = Settings.model_fields[section]
        if isinstance(field.default, BaseModel):
            for name, value in field.default:
                yield [f"`{section}.{name}`", as_default(value)]
        else:
            kinds = list(sections_in(field.annotation))  # the kinds of an array's items, which share some settings
            yield from map(list, dict.fromkeys(row for kind in kinds for row in of_an_item(section, kind, kinds)))


def of_an_item(section: str, kind: type[BaseModel], kinds: Sequence[type[BaseModel]]) -> Iterator[tuple[str, str]]:
    """Every setting of one kind of item in an array; what only this kind requires is said to be so."""
    for name, field in kind.model_fields.items():
        required = "required" if all(name in one.model_fields for one in kinds) else f"required by {SERVICES[kind]}"
        yield f"`{section}[].{name}`", required if field.is_required() else as_default(field.default)


def as_default(value: object) -> str:
    """Return a default as the settings file has it."""
    return "none" if value in (None, (), "") else str(value).lower() if isinstance(value, bool) else str(value)


def implementation() -> Rows:
    """How Hilum identifies itself to peers."""
    yield ["Item", "Value"]
    yield ["Implementation Class UID", str(part10.IMPLEMENTATION_CLASS_UID)]
    yield ["Implementation Version Name", part10.IMPLEMENTATION_VERSION_NAME]
    yield ["Application Context Name", "1.2.840.10008.3.1.1.1"]
    yield ["Maximum PDU length, as acceptor", f"{Settings.model_fields['node'].default.maximum_pdu_bytes} bytes"]
    yield ["Maximum PDU length, as requestor", "unlimited"]
    yield ["Asynchronous operations", "none"]


def character_sets() -> Rows:
    """Every Specific Character Set that is read; all are written in UTF-8."""
    yield ["Specific Character Set (0008,0005)", "Decoded as"]
    for name in sorted(filter(None, python_encoding)):
        if name.startswith(("ISO", "GB")) and "ISO-IR" not in name:
            yield [name, str(python_encoding[name])]


TABLES = {
    "received-classes": received_classes,
    "received-syntaxes": received_syntaxes,
    "sent-classes": sent_classes,
    "answered-statuses": answered_statuses,
    "obeyed-statuses": obeyed_statuses,
    "obeyed-http-statuses": obeyed_http_statuses,
    "settings": settings,
    "implementation": implementation,
    "character-sets": character_sets,
}
