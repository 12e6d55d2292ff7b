"""Querying a PACS and retrieving from it: C-FIND, C-MOVE and C-GET, as an SCU of the Study Root model (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.deadline import hung_up_after
from dicom_node.dispatch.ct_images import CT_IMAGES
from dicom_node.dispatch.selection import holds_no_lung, speaks_of_chest
from dicom_node.errors import HungUp, PassingFailure
from dicom_node.headers import as_list, taken_at
from dicom_node.log import get_logger
from dicom_node.request.association import open_association
from dicom_node.settings import Destination, Settings
from dicom_node.statuses import OUT_OF_RESOURCES, PENDING, SENT_IN_PART, SUCCESS

log = get_logger()

FIND = str(StudyRootQueryRetrieveInformationModelFind)
GET = str(StudyRootQueryRetrieveInformationModelGet)
MOVE = str(StudyRootQueryRetrieveInformationModelMove)
NAMES = {FIND: "C-FIND", GET: "C-GET", MOVE: "C-MOVE"}
WILD_CARDS = frozenset("*?\\")

REPORTS_OF_HILUM = "Hilum*"
"""Matches the Series Description of Hilum's own reports."""

Response = tuple[Dataset, Dataset | None]
"""A status, and the identifier that came with it."""


@dataclass(frozen=True)
class FoundSeries:
    """A series that the PACS holds."""

    study_instance_uid: str
    series_instance_uid: str


class NotSent(PassingFailure):
    """The PACS answered that it cannot send the objects, or not all of them."""


def find_reports(peer: Destination, settings: Settings, patient_id: str, issuer: str) -> list[FoundSeries]:
    """Return the series of Hilum's reports that a PACS holds on a patient.

    Studies with another issuer of Patient ID are left out. If the PACS returns no issuer, the report itself tells later
    whose it is. Studies that have no SR according to the PACS are skipped.

    Raises
    ------
    PassingFailure
        The PACS cannot be reached, or does not answer.
    """
    if WILD_CARDS & set(patient_id):
        return []  # a query would match other patients too (PS3.4 C.2.2.2.4)
    with associated(peer, settings, FIND) as association:
        studies = find(
            association, "STUDY", PatientID=patient_id, IssuerOfPatientID="", StudyInstanceUID="", ModalitiesInStudy=""
        )
        return [
            FoundSeries(str(study.StudyInstanceUID), str(series.SeriesInstanceUID))
            for study in of_patient(list(studies), patient_id, issuer)
            if may_have(study, "SR")
            for series in find(
                association,
                "SERIES",
                StudyInstanceUID=str(study.StudyInstanceUID),
                SeriesInstanceUID="",
                Modality="SR",
                SeriesDescription=REPORTS_OF_HILUM,
            )
            if str(series.get("SeriesDescription") or "Hilum").startswith("Hilum")  # the PACS need not match it
        ]


def find_last_chest_ct(
    peer: Destination, settings: Settings, patient_id: str, issuer: str, before: str, own: str = ""
) -> list[FoundSeries]:
    """Return the chest series of the patient's last chest CT that a PACS holds from before a moment.

    The patient is matched as in `find_reports`. A series counts only if its description, its body part or its study's
    description names the chest: whole head studies are not fetched only to look at them.

    Parameters
    ----------
    before : str
        Study Date and Time; the study must be earlier.
    own
        A Study Instance UID that does not count: the study that a prior is looked for.

    Raises
    ------
    PassingFailure
        The PACS cannot be reached, or does not answer.
    """
    if WILD_CARDS & set(patient_id):
        return []
    returned = dict.fromkeys(
        ("IssuerOfPatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "ModalitiesInStudy"), ""
    )
    with associated(peer, settings, FIND) as association:
        studies = list(find(association, "STUDY", PatientID=patient_id, **returned))
        others = [study for study in of_patient(studies, patient_id, issuer) if study.StudyInstanceUID != own]
        earlier = [study for study in others if is_before(taken_at(study), before)]
        for study in sorted(earlier, key=taken_at, reverse=True):
            if may_have(study, "CT") and (series := chest_series(association, study)):
                return series
    return []


def is_before(taken_at: str, moment: str) -> bool:
    """Whether a study is known to precede a moment: by the digits of date and time that both have."""
    known = min(len(taken_at), len(moment))
    return taken_at[:known] < moment[:known]


def chest_series(association: Association, study: Dataset) -> list[FoundSeries]:
    """Return the CT series of a study that are of the chest, by their descriptions and body part."""
    uid = str(study.StudyInstanceUID)
    returned = dict.fromkeys(("SeriesInstanceUID", "SeriesDescription", "BodyPartExamined"), "")
    found = list(find(association, "SERIES", StudyInstanceUID=uid, Modality="CT", **returned))
    return [FoundSeries(uid, str(series.SeriesInstanceUID)) for series in found if is_chest(study, series)]


def is_chest(study: Dataset, series: Dataset) -> bool:
    """Whether a study and one of its series name the chest, and the body part is none without lungs."""
    part = str(series.get("BodyPartExamined") or "")
    words = f"{study.get('StudyDescription') or ''} {series.get('SeriesDescription') or ''} {part}".upper()
    return speaks_of_chest(words) and not holds_no_lung(part)


def of_patient(studies: Sequence[Dataset], patient_id: str, issuer: str) -> list[Dataset]:
    """Return the studies of a patient; where no issuer is returned, the objects themselves tell later."""
    same_id = [study for study in studies if str(study.get("PatientID", "")).strip() == patient_id]
    same_issuer = [study for study in same_id if str(study.get("IssuerOfPatientID") or issuer).strip() == issuer]
    if others := len(same_id) - len(same_issuer):
        log.warning("priors_of_another_issuer", studies=others)  # perhaps only because the PACS adds a default one
    return same_issuer


def may_have(study: Dataset, modality: str) -> bool:
    """Whether a study may have series of a modality; also true if the PACS returns no modalities."""
    told = as_list(study.get("ModalitiesInStudy"))
    return not told or modality in told


def get_series(
    peer: Destination, settings: Settings, found: Sequence[FoundSeries], keep: Callable[[str, bytes], None]
) -> None:
    """Have a PACS send the CT images of series over the same association; return when it is done.

    A series of which it sends nothing is left out, such as one of screens (Secondary Capture), if it sends another.

    Parameters
    ----------
    keep
        Called with each image's SOP Instance UID and the bytes of its file.

    Raises
    ------
    NotSent
        The PACS could send no series, or one only in part.
    PassingFailure
        The PACS cannot be reached, does not offer C-GET, or hung up.
    OSError
        An image could not be kept.
    """
    got, lost = list[str](), list[OSError]()

    def on_store(event: evt.Event) -> int:
        uid = str(event.file_meta.MediaStorageSOPInstanceUID)
        try:
            keep(uid, event.encoded_dataset())
        except OSError as error:
            lost.append(error)
            return OUT_OF_RESOURCES
        got.append(uid)
        return SUCCESS

    refusal = None
    with associated(peer, settings, GET, CT_IMAGES, on_store) as association:
        for series in found:
            query = identifier(
                "SERIES", StudyInstanceUID=series.study_instance_uid, SeriesInstanceUID=series.series_instance_uid
            )
            before = len(got)
            *_, (status, _) = ask(association.send_c_get, query, GET)
            if lost:
                raise lost[0]
            if "Status" not in status:
                message = f"{peer.name} hung up amid C-GET, or was not done within priors.longest_seconds"
                raise HungUp("association-lost", message)
            if status.Status != SUCCESS:
                refusal = NotSent("not-got", f"{peer.name} answered {said(status)} to C-GET, and has not sent all")
                if len(got) > before:
                    raise refusal
        if refusal and not got:
            raise refusal


def move_series(peer: Destination, settings: Settings, found: Sequence[FoundSeries]) -> None:
    """Have a PACS send series to this node's AE title; return when it is done.

    Raises
    ------
    NotSent
        The PACS sent a series only in part; the series after it are not asked for.
    PassingFailure
        The PACS could not send them: most often it does not know this node's AE title.
    """
    with associated(peer, settings, MOVE) as association:
        for series in found:
            query = identifier(
                "SERIES", StudyInstanceUID=series.study_instance_uid, SeriesInstanceUID=series.series_instance_uid
            )
            *_, (status, _) = ask(association.send_c_move, query, settings.node.ae_title, MOVE)
            if status.get("Status") == SENT_IN_PART:
                raise NotSent("not-moved", f"{peer.name} answered {said(status)} to C-MOVE, and has not sent all")
            if status.get("Status") != SUCCESS:
                raise PassingFailure(
                    "not-moved",
                    f"{peer.name} answered {said(status)} to C-MOVE; it must know {settings.node.ae_title} as a "
                    "destination, and be done within priors.timeout_seconds",
                )


@contextmanager
def associated(
    peer: Destination,
    settings: Settings,
    sop_class_uid: str,
    taken: Sequence[tuple[str, str]] = (),
    on_store: Callable[[evt.Event], int] | None = None,
) -> Iterator[Association]:
    """Open an association for one service for the time of a ``with``; it is cut after ``priors.longest_seconds``.

    Parameters
    ----------
    taken, on_store
        What the PACS may send in answer to C-GET, and what takes it, as in `open_association`.

    Raises
    ------
    PassingFailure
        The PACS cannot be reached, or does not offer the service.
    """
    contexts = [(sop_class_uid, str(ImplicitVRLittleEndian))]
    timeout_seconds = settings.priors.timeout_seconds
    with open_association(peer, settings, contexts, timeout_seconds, taken=taken, on_store=on_store) as association:
        if not any(context.abstract_syntax == sop_class_uid for context in association.accepted_contexts):
            message = f"{peer.name} does not let {settings.node.ae_title} ask by {NAMES[sop_class_uid]}"
            raise PassingFailure("not-offered", message)
        transport = association.dul.socket
        if transport is None or transport.socket is None:
            raise PassingFailure("association-lost", f"{peer.name} hung up before it was asked")
        with hung_up_after(transport.socket, settings.priors.longest_seconds):
            yield association


def ask(send: Callable[..., Iterator[Response]], *request: object) -> Iterator[Response]:
    """Send a request; return the responses, or one empty response if the association has ended already."""
    try:
        return send(*request)
    except RuntimeError:
        return iter([(Dataset(), None)])


def find(association: Association, level: str, **keys: str) -> Iterator[Dataset]:
    """Yield the matches of a C-FIND that carry the UID of their level.

    Raises
    ------
    PassingFailure
        The PACS answers with a failure, or not at all.
    """
    for status, match in ask(association.send_c_find, identifier(level, **keys), FIND):
        if status.get("Status") not in PENDING | {SUCCESS}:
            message = f"the PACS answered {said(status)} to C-FIND; it must let this AE title ask"
            raise PassingFailure("not-found", message)
        if match is not None and match.get(f"{level.title()}InstanceUID"):
            yield match


def said(status: Dataset) -> str:
    """Return a status for a message; "nothing" if the association ended or timed out before an answer."""
    return f"{status.Status:#06x}" if "Status" in status else "nothing"


def identifier(level: str, **keys: str) -> Dataset:
    """Return the identifier of a query or retrieval."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds
