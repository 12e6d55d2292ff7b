"""A site's own scans: one or more folders for each patient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_node.headers import read_header
from training.datasets.segmentations import is_foreign
from training.files import PARTIAL, read_json, write_json

LABELS = "labels"
UNFINISHED = f"{LABELS}{PARTIAL}"
"""Folders in a patient's folder: the labels that ``hilum label`` wrote, and those it was writing when it was killed."""

FIRST = "first.json"
"""File in a folder of labels: the SHA-256 of each mask as ``hilum label`` wrote it, to recognise corrected ones."""


def owners(folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each folder with its patient: the name of the first folder that belongs to the same person."""
    names: dict[tuple[str, ...], str] = {}
    for folder in folders:
        yield folder, names.setdefault(_person(folder), folder.name)


def write_first(labels: Path) -> None:
    """Record the hashes of a folder's masks before anybody corrects them."""
    write_json(labels / FIRST, {path.name: _sha256(path) for path in _masks(labels)})


def has_corrected_nifti(patient: Path) -> bool:
    """Whether a patient's NIfTI masks differ from those that ``hilum label`` wrote, or their hashes are missing."""
    labels = patient / LABELS
    if not (labels / FIRST).exists():
        return labels.is_dir()
    return bool(read_json(labels / FIRST) != {path.name: _sha256(path) for path in _masks(labels)})


def has_corrected_seg(patient: Path) -> bool:
    """Whether a patient's folder contains a DICOM SEG that Hilum did not make."""
    return any(is_foreign(path) for path in patient.rglob("*") if path.is_file())


def _masks(labels: Path) -> list[Path]:
    return [labels / "lungs.nii.gz", labels / "infection.nii.gz"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _person(folder: Path) -> tuple[str, ...]:
    """Return the Patient ID in a folder's first DICOM file that has one, with its issuer; else the folder's name."""
    for path in sorted(folder.rglob("*")):
        header = read_header(path) if path.is_file() else None
        if header is not None and header.patient_id:
            return header.issuer_of_patient_id, header.patient_id
    return (folder.name,)
