"""Asking a PACS for what it holds: C-FIND and C-MOVE, as an SCU of the Study Root model (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.deliver.outgoing import Outgoing
from dicom_node.deliver.scu import open_association
from dicom_node.errors import PassingFailure
from dicom_node.settings import Destination, Settings

FIND = str(StudyRootQueryRetrieveInformationModelFind)
MOVE = str(StudyRootQueryRetrieveInformationModelMove)
PENDING = frozenset({0xFF00, 0xFF01})
SUCCESS = 0x0000
WILD_CARDS = frozenset("*?\\")

REPORTS_OF_HILUM = "Hilum*"
"""The Series Description of our own reports begins so."""


@dataclass(frozen=True)
class FoundSeries:
    """A series that the PACS holds."""

    study_instance_uid: str
    series_instance_uid: str


def find_reports(peer: Destination, settings: Settings, patient_id: str, issuer: str) -> list[FoundSeries]:
    """Return the series of Hilum's reports that a PACS holds on a patient.

    Studies whose issuer differs are left out; where the PACS tells no issuer, the report itself will.

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
            for study in list(studies)
            if str(study.get("PatientID", "")).strip() == patient_id
            and str(study.get("IssuerOfPatientID") or issuer).strip() == issuer
            for series in find(
                association,
                "SERIES",
                StudyInstanceUID=str(study.StudyInstanceUID),
                SeriesInstanceUID="",
                Modality="SR",
                SeriesDescription=REPORTS_OF_HILUM,
            )
        ]


def move_series(peer: Destination, settings: Settings, found: Sequence[FoundSeries]) -> None:
    """Have a PACS send series to this node's AE title; return when it has.

    Raises
    ------
    PassingFailure
        It could not, or not all of them: most often it does not know this node's AE title.
    """
    with associated(peer, settings, MOVE) as association:
        for series in found:
            query = identifier(
                "SERIES", StudyInstanceUID=series.study_instance_uid, SeriesInstanceUID=series.series_instance_uid
            )
            *_, (status, _) = association.send_c_move(query, settings.node.ae_title, MOVE)
            if status.get("Status") != SUCCESS:
                raise PassingFailure(
                    "not-moved",
                    f"{peer.name} answered {said(status)} to C-MOVE; it must know {settings.node.ae_title} as a "
                    "destination, and be done within priors.timeout_seconds",
                )


def associated(peer: Destination, settings: Settings, sop_class_uid: str) -> open_association:
    """Return an association for one service, to be used in a ``with``; it waits no longer than priors may take."""
    delivery = settings.delivery.model_copy(update={"network_timeout_seconds": settings.priors.timeout_seconds})
    limited = settings.model_copy(update={"delivery": delivery})
    return open_association(peer, limited, [Outgoing(Path(), sop_class_uid, str(ImplicitVRLittleEndian))])


def find(association: Association, level: str, **keys: str) -> Iterator[Dataset]:
    """Yield what matches."""
    for status, match in association.send_c_find(identifier(level, **keys), FIND):
        if status.get("Status") not in PENDING | {SUCCESS}:
            message = f"the PACS answered {said(status)} to C-FIND; it must let this AE title ask"
            raise PassingFailure("not-found", message)
        if match is not None:
            yield match


def said(status: Dataset) -> str:
    """Return a peer's answer; it has none where the association ended, or took too long."""
    return f"{status.Status:#06x}" if "Status" in status else "nothing"


def identifier(level: str, **keys: str) -> Dataset:
    """Return a query."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds
