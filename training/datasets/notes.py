"""Notes for users who train on a site's own scans, about problems that readers cannot refuse as errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from training.datasets import OWN, folder_of
from training.datasets.dicom import holds_only_runs
from training.datasets.own import LABELS, corrected_nifti
from training.datasets.sample import INFECTION, LUNG, UNIONS
from training.datasets.segmentations import is_hilums, read_seg_header, segments_of, structure_of, unknown_names

MOST_NAMES = 10


def corrected_seg(patient: Path) -> dict[str, bool]:
    """Return for lung and infection, if a patient's folder has a SEG of any part, whether Hilum did not make one."""
    corrected: dict[str, bool] = {}
    for ds in filter(None, map(read_seg_header, OWN["dicom"].files(patient))):
        structures = {structure_of(segment) for segment in segments_of(ds)}
        for union in (LUNG, INFECTION):
            if structures & {union, *UNIONS[union]}:
                corrected[union] = corrected.get(union, False) or not is_hilums(ds)
    return corrected


KINDS = {"labels": ("NIfTI masks", corrected_nifti), "dicom": ("DICOM SEG", corrected_seg)}
"""By data set: the kind of labels that it reads, and what tells which structures somebody corrected."""


def notes(names: Sequence[str], data: Path) -> Iterator[str]:
    """Yield a sentence for each problem that the readers of these data sets pass over."""
    for name in (name for name in names if name in OWN):
        patients = [p for p in sorted(folder_of(name, data).iterdir()) if p.is_dir() and not holds_only_runs(p)]
        if name == "labels":
            unlabelled = [path for path in patients if not (path / LABELS).is_dir()]
            if unlabelled:
                yield f"{_count(unlabelled, patients)} no {LABELS} and are left out: {_named(unlabelled)}"
            patients = [path for path in patients if path not in unlabelled]
        corrected = {kind: {path: find(path) for path in patients} for kind, (_, find) in KINDS.items()}
        for structure in (LUNG, INFECTION):
            yield from _uncorrected(name, structure, corrected)
        for path in (path for patient in patients if name == "dicom" for path in OWN[name].files(patient)):
            header = read_seg_header(path)
            if header is not None and (unknown := unknown_names(header)):
                yield f"{path}: left out, because Hilum knows no structure called {unknown}"


def _uncorrected(
    name: str, structure: str, corrected: Mapping[str, Mapping[Path, Mapping[str, bool]]]
) -> Iterator[str]:
    """Yield sentences that name the patients whose labels of a structure, of the set's kind, nobody corrected.

    A second sentence names those of them who have corrected labels of the kind that another data set reads.

    Parameters
    ----------
    corrected : mapping
        By data set and patient: what ``KINDS`` finds.
    """
    patients = corrected[name]
    uncorrected = [path for path, found in patients.items() if found.get(structure) is False]
    if uncorrected:
        count = _count(uncorrected, patients)
        yield f"{count} {KINDS[name][0]} of {structure} that nobody corrected: {_named(uncorrected)}"
    for other in KINDS.keys() - {name}:
        elsewhere = [path for path in uncorrected if corrected[other][path].get(structure)]
        if elsewhere:
            said = f"of these {len(elsewhere)} have corrected {KINDS[other][0]}, which --sets {other} reads"
            yield f"{said}: {_named(elsewhere)}"


def _count(some: Collection[Path], patients: Collection[Path]) -> str:
    return f"{len(some)} of {len(patients)} patients have"


def _named(patients: Sequence[Path]) -> str:
    names = [path.name for path in patients]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
