"""Notes for users who train on a site's own scans, about problems that readers cannot refuse as errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.datasets import OWN, folder_of
from training.datasets.own import LABELS, has_corrected_nifti, has_corrected_seg

KINDS = {"labels": ("NIfTI masks", has_corrected_nifti), "dicom": ("DICOM SEG", has_corrected_seg)}
"""By data set: the kind of labels that it reads, and the check whether a patient's folder has corrected ones."""

MOST_NAMES = 10


def notes(names: Sequence[str], data: Path, without: Path) -> Iterator[str]:
    """Yield a sentence for each problem that the readers of these data sets pass over.

    Parameters
    ----------
    without : Path
        The run's folder, which may be inside the data's but is no patient.
    """
    run = without.resolve()
    for name in (name for name in names if name in OWN):
        patients = [path for path in sorted(folder_of(name, data).iterdir()) if path.is_dir()]
        patients = [path for path in patients if path.resolve() not in (run, *run.parents)]
        if name == "labels":
            unlabelled = [path for path in patients if not (path / LABELS).is_dir()]
            if unlabelled:
                yield f"{_count(unlabelled, patients)} no {LABELS} and are left out: {_named(unlabelled)}"
            patients = [path for path in patients if path not in unlabelled]
        yield from _uncorrected(name, patients)


def _uncorrected(name: str, patients: Sequence[Path]) -> Iterator[str]:
    """Yield sentences that name the patients without corrected labels of the kind that the data set reads.

    A second sentence names those of them who have corrected labels of the kind that another data set reads.
    """
    kind, is_corrected = KINDS[name]
    uncorrected = [path for path in patients if not is_corrected(path)]
    if uncorrected:
        yield f"{_count(uncorrected, patients)} {kind} that nobody corrected: {_named(uncorrected)}"
    for other in KINDS.keys() - {name}:
        kind, is_corrected = KINDS[other]
        elsewhere = [path for path in uncorrected if is_corrected(path)]
        if elsewhere:
            yield f"of these {len(elsewhere)} have corrected {kind}, which --sets {other} reads: {_named(elsewhere)}"


def _count(some: Sequence[Path], patients: Sequence[Path]) -> str:
    return f"{len(some)} of {len(patients)} patients have"


def _named(patients: Sequence[Path]) -> str:
    names = [path.name for path in patients]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
