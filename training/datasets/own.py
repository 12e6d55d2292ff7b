"""A site's own scans: one or more folders for each patient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from dicom_node.folder import files_in
from dicom_node.headers import CT_STORAGE, read_header
from training.datasets.faults import Faults
from training.datasets.sample import INFECTION, LUNG, UNIONS, BadData, Sample
from training.files import PARTIAL, read_json, write_json

LABELS = "labels"
UNFINISHED = f"{LABELS}{PARTIAL}"
"""Folders in a patient's folder: the labels that ``hilum label`` wrote, and those it was writing when it was killed."""

FIRST = "first.json"
"""File in a folder of labels: the SHA-256 of each mask as ``hilum label`` wrote it, to recognise corrected ones."""


def owners(folders: Iterable[Path]) -> dict[Path, str]:
    """Return each folder's patient: the name of the first folder that belongs to the same person.

    Raises
    ------
    BadData
        Folders hold images of several patients; the message names all such folders.
    """
    names: dict[tuple[str, ...], str] = {}
    patients: dict[Path, str] = {}
    faults = Faults()
    for folder in folders:
        with faults.kept():
            patients[folder] = names.setdefault(_person(folder), folder.name)
    faults.refuse()
    return patients


def with_infection_in_lung(sample: Sample) -> Sample:
    """Return a scan with its infection added to its lung mask, if it has one.

    Label maps give each voxel one label, and thresholds leave consolidation out of the lung; PoIR is over the lungs
    with their infection.
    """
    infection = [mask for name, mask in sample.masks.items() if name in (INFECTION, *UNIONS[INFECTION])]
    if not infection or not (LUNG in sample.masks or sample.masks.keys() >= set(UNIONS[LUNG])):
        return sample
    lung = np.logical_or.reduce([sample.mask(LUNG), *infection])
    return replace(sample, masks={**sample.masks, LUNG: lung})


def write_first(labels: Path) -> None:
    """Record the hashes of a folder's masks before anybody corrects them."""
    write_json(labels / FIRST, {path.name: _sha256(path) for path in _masks(labels).values()})


def corrected_nifti(patient: Path) -> dict[str, bool]:
    """Return for lung and infection whether the NIfTI mask differs from that of ``hilum label``, or has no hash."""
    labels = patient / LABELS
    first = read_json(labels / FIRST) if (labels / FIRST).exists() else {}
    masks = _masks(labels) if labels.is_dir() else {}
    return {structure: first.get(path.name) != _sha256(path) for structure, path in masks.items()}


def _masks(labels: Path) -> dict[str, Path]:
    return {LUNG: labels / "lungs.nii.gz", INFECTION: labels / "infection.nii.gz"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _person(folder: Path) -> tuple[str, ...]:
    """Return Patient ID and issuer of a folder's CT images, else of its other DICOM files, else the folder's name.

    Objects that viewers make, such as SEG, may lack the issuer or have another ID.
    """
    headers = [read_header(path) for path in files_in(folder)]
    named = [header for header in headers if header is not None and header.patient_id]
    images = [header for header in named if header.sop_class_uid in CT_STORAGE] or named
    issuers = {header.issuer_of_patient_id: header for header in images if header.issuer_of_patient_id}
    for differing in ({header.patient_id: header for header in images}, issuers):
        if len(differing) > 1:
            paths = " and ".join(str(header.path) for header in list(differing.values())[:2])
            raise BadData("several-patients", f"{folder}: holds images of several patients, such as {paths}")
    return (images[0].patient_id, *issuers) if images else (folder.name,)
