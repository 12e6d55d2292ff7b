"""A site's own scans: a folder for each patient, or several for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_node.headers import read_header
from training.files import PARTIAL

LABELS = "labels"
UNFINISHED = f"{LABELS}{PARTIAL}"
"""In a patient's folder: what ``hilum label`` has written, and what it was writing when it was killed."""


def owners(folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each folder with its patient: the name of the first folder that belongs to the same person."""
    names: dict[tuple[str, ...], str] = {}
    for folder in folders:
        yield folder, names.setdefault(_person(folder), folder.name)


def _person(folder: Path) -> tuple[str, ...]:
    """Return the Patient ID in a folder's first DICOM file that has one, with its issuer; else the folder's name."""
    for path in sorted(folder.rglob("*")):
        header = read_header(path) if path.is_file() else None
        if header is not None and header.patient_id:
            return header.issuer_of_patient_id, header.patient_id
    return (folder.name,)
