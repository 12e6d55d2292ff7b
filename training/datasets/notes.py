"""What whoever trains on a site's own scans should know of them, and no reader can refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.datasets import folder_of
from training.datasets.own import LABELS

MOST_NAMES = 10


def notes(names: Sequence[str], data: Path, without: Path) -> Iterator[str]:
    """Yield a sentence for each thing that a reader of these data sets passes over.

    Parameters
    ----------
    without : Path
        The run's folder, which may lie below the data.
    """
    if "labels" in names:
        run = without.resolve()
        patients = [path for path in sorted(folder_of("labels", data).iterdir()) if path.is_dir()]
        patients = [path for path in patients if path.resolve() not in (run, *run.parents)]
        unlabelled = [path for path in patients if not (path / LABELS).is_dir()]
        if unlabelled:
            yield f"{_count(unlabelled, patients)} no {LABELS} and are left out: {_named(unlabelled)}"


def _count(some: Sequence[Path], patients: Sequence[Path]) -> str:
    return f"{len(some)} of {len(patients)} patients have"


def _named(patients: Sequence[Path]) -> str:
    names = [path.name for path in patients]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
