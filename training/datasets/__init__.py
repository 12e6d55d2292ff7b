"""Readers of data sets, one layout a file; each yields samples one at a time, so that no set must fit memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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

OWN: Mapping[str, Callable[[Path], Iterator[tuple[Path, str]]]] = {
    "dicom": dicom.patients,
    "labels": nifti.labelled_patients,
}
"""Sets of a site's own scans, which grow; each yields its patients' folders and names before any image is read."""


def read(name: str, data: Path) -> Iterator[Sample]:
    """Yield the samples of a data set.

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
    if not data.is_dir():
        raise SettingsError("no-data", f"expected a folder of data sets, got {data}")
    return READERS[name](folder_of(name, data))


def read_all(names: Sequence[str], data: Path) -> Iterator[Sample]:
    """Yield the samples of several data sets.

    Raises
    ------
    BadData
        When one of a site's own images is there twice, under two patients perhaps.
    """
    called: dict[bytes, str] = {}
    for name in names:
        for sample in read(name, data):
            if name in OWN:
                content = hashlib.sha256(sample.image.tobytes()).digest()
                other = called.setdefault(content, sample.name)
                if other != sample.name:
                    raise BadData("same-image", f"{sample.name}: has the image of {other}; leave one of the two out")
            yield sample


def own_patients(names: Sequence[str], data: Path) -> list[str]:
    """Return the patients of sets that are all a site's own, before any image is read; none where others are read."""
    if not set(names) <= OWN.keys():
        return []
    return [patient for name in names for _, patient in OWN[name](folder_of(name, data))]


def folder_of(name: str, data: Path) -> Path:
    """Return the folder of a set: the one of its name, or the one given."""
    return data / name if (data / name).is_dir() else data


def fingerprint(names: Sequence[str], data: Path, without: Path) -> str:
    """Return a hash of the names, sizes and times of a site's own files, or nothing where no set of those is read.

    Labels are corrected and patients added while there is a run already; it has seen none of that.

    Parameters
    ----------
    without : Path
        The run's folder, which may lie below the data and changes as it goes.
    """
    run = without.resolve()
    files = [
        path
        for name in names
        if name in OWN
        for path in folder_of(name, data).rglob("*")
        if path.is_file() and run not in path.resolve().parents
    ]
    lines = sorted(f"{path.relative_to(data)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""
