"""Read test scans as a worker does.

The lungs come first, then infection, from the slices and their mirror images; candidate regions are filtered. All of it
is at the scan's own resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from training import datasets
from training.datasets.sample import INFECTION, LUNG, BadData, Sample
from training.evaluate.metrics import FEWEST_SLICES, Confusion
from training.evaluate.patients import Patient, patient_figures
from training.prepare.chest_target import as_volume
from training.prepare.prepared import Prepared
from worker.candidates import filter_candidates
from worker.chest_network import ChestNetwork
from worker.pipeline import Method
from worker.volume import Volume


def scans_of(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Return the samples that a worker would read: scans of at least ``FEWEST_SLICES`` slices, no single slices."""
    return [sample for sample in prepared if len(sample.image) >= FEWEST_SLICES]


Found = Mapping[str, NDArray[np.bool_]]
"""Masks of lungs and infection by structure."""


def measure_scans(
    networks: Mapping[str, ChestNetwork],
    samples: Iterable[Sample],
    show: Callable[[str, Volume, Found, Sample], object],
) -> dict[str, float]:
    """Return the figures of each network by patient and over patients.

    Parameters
    ----------
    networks : mapping
        Networks by the prefix of their figures' names.
    samples : iterable of Sample
        The scans.
    show : callable
        Gets every prefix and scan, with what was found in it.
    """
    patients: dict[str, dict[str, Patient]] = {prefix: {} for prefix in networks}
    for sample in samples:
        for prefix, network in networks.items():
            patient = patients[prefix].setdefault(sample.patient or sample.name, Patient())
            volume = as_volume(sample)
            found = read_scan(network.method, volume)
            lung, infection = (count(found[structure], sample, structure) for structure in (LUNG, INFECTION))
            patient.add(lung, infection, len(sample.image), sample.voxel_ml)
            show(prefix, volume, found, sample)
    return {
        f"{prefix}{name}": value
        for prefix, members in patients.items()
        for name, value in patient_figures(members).items()
    }


def find_samples(sets: Sequence[str], data: Path, scans: Collection[Prepared]) -> Iterator[Sample]:
    """Yield the samples that scans were prepared from, except those without a mask of all their infection.

    Raises
    ------
    SettingsError
        A scan is no longer in the data.
    """
    wanted = {(scan.source, scan.name): scan for scan in scans}
    for name in sets:
        for sample in datasets.read(name, data):
            if (sample.source, sample.name) in wanted:
                scan = wanted.pop((sample.source, sample.name))
                if count(np.zeros(sample.image.shape, np.bool_), sample, INFECTION) != Confusion():
                    yield replace(sample, patient=scan.patient)
    if wanted:
        raise SettingsError("scan-gone", f"{data} no longer holds {', '.join(sorted(name for _, name in wanted))}")


def read_scan(method: Method, volume: Volume) -> Found:
    """Return the masks of lungs and infection as a worker makes them, without its gates, which may refuse a scan."""
    lungs = method.segment_lungs(volume)
    infection, _ = filter_candidates(volume, method.segment_infection(volume, lungs), method.judge)
    return {LUNG: lungs.labels > 0, INFECTION: infection.array}


def count(found: NDArray[np.bool_], sample: Sample, structure: str) -> Confusion:
    """Compare a mask with a structure's, voxel by voxel; all counts are 0 if the structure was not annotated."""
    true = drawn(sample, structure)
    return Confusion() if true is None else Confusion.of(found, true)


def drawn(sample: Sample, structure: str) -> NDArray[np.bool_] | None:
    """Return the mask of a structure that somebody drew; None if nobody did."""
    try:
        return sample.mask(structure)
    except BadData:
        return None
