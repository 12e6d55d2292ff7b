"""Readers of data sets, one file per layout; each yields samples one at a time, so that no set must fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.errors import SettingsError
from training.datasets import (
    ct_studies,
    dicom,
    infection_slices,
    lung_slices,
    medseg100,
    medseg_chest,
    nifti,
    phantom,
)
from training.datasets.own import owners, with_infection_in_lung
from training.datasets.sample import BadData, Sample

READERS: Mapping[str, Callable[[Path], Iterator[Sample]]] = {
    "infection-slices": infection_slices.read,
    "medseg100": medseg100.read,
    "medseg-chest": medseg_chest.read,
    "lung-slices": lung_slices.read,
    "ct-studies": ct_studies.read,
    "dicom": dicom.read,
    "covid-19-ct-seg": nifti.read_covid_19_ct_seg,
    "mosmed": nifti.read_mosmed,
    "covid-19-20": nifti.read_covid_19_20,
    "labels": nifti.read_labels,
    "phantom": phantom.read,
}


@dataclass(frozen=True)
class Own:
    """How to find the patients and files of a site's own scans before any scan is read.

    Parameters
    ----------
    folders : callable
        Maps the set's folder to those of the patients.
    files : callable
        Maps a patient's folder to the files that are read there.
    """

    folders: Callable[[Path], list[Path]]
    files: Callable[[Path], Iterable[Path]]


OWN: Mapping[str, Own] = {
    "dicom": Own(dicom.folders, dicom.files),
    "labels": Own(nifti.labelled_folders, nifti.label_files),
}
"""Data sets of a site's own scans, which may grow and be corrected."""


SAME_PATIENTS = (frozenset({"infection-slices", "covid-19-ct-seg"}), frozenset({"medseg-chest", "medseg100"}))
"""Groups of data sets that share some or all of their patients."""


def read(name: str, data: Path) -> Iterator[Sample]:
    """Yield the samples of a data set; in a site's own, the lung includes all infection that was drawn.

    Parameters
    ----------
    name : str
        A key of ``READERS``.
    data : Path
        The folder that holds the set's folder of that name, or that folder itself.

    Raises
    ------
    SettingsError
        When no reader has that name, or there is no such folder.
    BadData
        When a file is missing or malformed; the message names it.
    """
    if name not in READERS:
        raise SettingsError("unknown-data-set", f"no data set {name!r}; known are {', '.join(READERS)}")
    samples = READERS[name](folder_of(name, data))
    return map(with_infection_in_lung, samples) if name in OWN else samples


def read_all(names: Sequence[str], data: Path) -> Iterator[Sample]:
    """Yield the samples of several data sets; one person in several folders of a site's own sets is one patient.

    Raises
    ------
    SettingsError
        When two sets have the same patients: these would be on both sides of a split.
    BadData
        When a set is missing, a folder holds images of several patients, or the same image lies twice in a site's own
        sets, perhaps under two patients.
    """
    for group in SAME_PATIENTS:
        shared = sorted(group & set(names))
        if len(shared) > 1:
            raise SettingsError("same-patients", f"{' and '.join(shared)} have the same patients; name one of them")
    called: dict[bytes, str] = {}
    patients = owners(_own_folders(names, data))
    for name in names:
        if name not in OWN:
            yield from _read_or_advise(name, data)
            continue
        for sample in read(name, data):
            content = hashlib.sha256(sample.image.tobytes()).digest()
            other = called.setdefault(content, sample.name)
            if other != sample.name:
                raise BadData("same-image", f"{sample.name}: has the image of {other}; leave one of the two out")
            folder = folder_of(name, data) / str(sample.patient)
            yield replace(sample, patient=patients.get(folder, sample.patient))


def _read_or_advise(name: str, data: Path) -> Iterator[Sample]:
    """Yield the samples of a public set; if it is missing, the error says how to read one's own scans instead."""
    try:
        yield from read(name, data)
    except BadData as error:
        if error.code != "missing-file" or folder_of(name, data) != data:
            raise
        message = f"no data set {name} in {data} ({error.message}); your own scans: --sets labels or --sets dicom"
        raise BadData("no-data-set", message) from error


def own_patients(names: Sequence[str], data: Path) -> list[str]:
    """Return the patient of each folder without reading images; nothing unless all sets are a site's own."""
    return list(owners(_own_folders(names, data)).values()) if set(names) <= OWN.keys() else []


def _own_folders(names: Sequence[str], data: Path) -> list[Path]:
    """Return the folders of the patients in a site's own sets."""
    return [folder for name in names if name in OWN for folder in OWN[name].folders(folder_of(name, data))]


def folder_of(name: str, data: Path) -> Path:
    """Return the folder of a set: the folder of its name in ``data``, else ``data`` itself.

    Raises
    ------
    SettingsError
        If there is no folder ``data``.
    """
    if not data.is_dir():
        raise SettingsError("no-data", f"expected a folder of data sets, got {data}")
    return data / name if (data / name).is_dir() else data


def fingerprint(names: Sequence[str], data: Path) -> str:
    """Return a hash of names, sizes and times of a site's own files that are read; an empty string if there are none.

    It shows that labels were corrected or patients added after a run began, which the run has not seen.
    """
    own = [(OWN[name], folder_of(name, data)) for name in names if name in OWN]
    files = [path for kind, folder in own for patient in kind.folders(folder) for path in kind.files(patient)]
    present = [path for path in files if path.exists()]
    lines = sorted(f"{path.relative_to(data)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in present)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""
