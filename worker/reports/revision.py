"""A result that replaces an earlier one: which document came before, and the note that withdraws it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import CodedConcept
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from worker.reports import codes, context
from worker.reports.context import ResultContext

_WHY = "Replaced by a new result of the same study."
"""True in every case: more images came in, or what was given up was taken up again."""


def read_earlier(paths: Iterable[Path]) -> tuple[Dataset, ...]:
    """Return the headers of an earlier result's objects; what retention has removed cannot be named any more."""
    return tuple(dcmread(path, stop_before_pixels=True) for path in paths if path.is_file())


def reports_among(earlier: Iterable[Dataset]) -> list[Dataset]:
    """Return the reports, which a new report names as its predecessors (PS3.3 C.17.2)."""
    return [ds for ds in earlier if ds.Modality == "SR"]


def build_rejection_note(earlier: Sequence[Dataset], shared: ResultContext) -> Dataset:
    """Return the Key Object Selection that withdraws an earlier result (IHE IOCM, PS3.16 TID 2010).

    It refers to the withdrawn objects and to nothing else: an archive that follows IOCM hides all of them.
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
            del item.ConceptNameCodeSequence  # highdicom names the references, which TID 2010 forbids
    shared.complete(note, context.REJECTION_NOTE)
    return note


def _as_evidence(ds: Dataset, shared: ResultContext) -> Dataset:
    """Return what highdicom needs of an object: its UIDs, whether it is an image, and whose it is."""
    evidence = Dataset()
    for keyword in ("Rows", "Columns"):
        if keyword in ds:
            evidence[keyword] = ds[keyword]
    evidence.update(shared.source.identity)
    evidence.add_new("PatientName", "PN", "")  # see `read_source`
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        evidence[keyword] = ds[keyword]
    return evidence
