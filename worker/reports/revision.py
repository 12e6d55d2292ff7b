"""Results that replace an earlier one: their predecessor documents, and the rejection note for the earlier result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.headers import UNREADABLE, require_storage
from dicom_node.log import get_logger
from worker.reports import codes, context
from worker.reports.context import ResultContext

log = get_logger()

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

_WHY = "Replaced by a new result of the same study."
"""True in every case: more images arrived, or a job that had been given up was run again."""


def read_earlier(paths: Iterable[Path]) -> tuple[Dataset, ...]:
    """Return the headers of an earlier result's objects, without those whose files retention has removed.

    Damaged ones are left out too, and logged: nothing can refer to them, so they are not withdrawn.

    Raises
    ------
    PassingFailure
        The storage fails to read one of them.
    """
    return tuple(ds for path in paths if path.is_file() and (ds := _read_header(path)))


def _read_header(path: Path) -> Dataset | None:
    try:
        ds = dcmread(path, stop_before_pixels=True)
        if all(ds.get(keyword) for keyword in ("Modality", *_UIDS)):
            return ds
    except UNREADABLE as error:
        require_storage(error)
    log.warning("earlier_result_damaged", reason=f"the earlier {path.stem} cannot be read, and is not withdrawn")
    return None


def reports_among(earlier: Iterable[Dataset]) -> list[Dataset]:
    """Return the reports, which a new report lists as its predecessor documents (PS3.3 C.17.2)."""
    return [ds for ds in earlier if ds.Modality == "SR"]


def build_rejection_note(earlier: Sequence[Dataset], shared: ResultContext) -> Dataset:
    """Return the Key Object Selection that withdraws an earlier result (IHE IOCM, PS3.16 TID 2010).

    It refers only to the withdrawn objects, because an archive that follows IOCM hides everything it refers to.
    """
    evidence = [_as_evidence(ds, shared) for ds in earlier]
    note = KeyObjectSelectionDocument(
        evidence=evidence,
        content=KeyObjectSelection(
            document_title=CodedConcept.from_code(codes.REJECTED_FOR_QUALITY_REASONS),
            referenced_objects=evidence,
            observer_device_context=context.device_observer(shared.algorithm),
            description=_WHY,
        ),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **shared.arguments(context.REJECTION_NOTE),
    )
    for item in note.ContentSequence:
        if "ReferencedSOPSequence" in item:
            del item.ConceptNameCodeSequence  # highdicom adds a name, which TID 2010 forbids
    shared.complete(note, context.REJECTION_NOTE)
    return note


def _as_evidence(ds: Dataset, shared: ResultContext) -> Dataset:
    """Return the attributes of an object that highdicom needs: its UIDs, patient and study, and an image's size."""
    evidence = Dataset()
    for keyword in ("Rows", "Columns"):
        if keyword in ds:
            evidence[keyword] = ds[keyword]
    evidence.update(shared.source.identity)
    evidence.add_new("PatientName", "PN", "")  # see `source._source`
    for keyword in _UIDS:
        evidence[keyword] = ds[keyword]
    return evidence
