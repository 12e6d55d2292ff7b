"""Samples as a network sees them, stored on disk: prepared once, mapped into memory, shared by folds and processes."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from dicom_node.files import sync_tree
from training.datasets.faults import Faults
from training.datasets.sample import BadData, Sample
from training.files import read_json, refusing_damaged, write_json
from training.prepare.preprocess import Preprocess
from training.prepare.target import Target

LEFT_BEHIND = re.compile(r"\d{5,}\.(image|labels)\.npy|index\.json\.partial")
"""Names of the files that an interrupted preparation leaves."""

ENTRY = ("file", "name", "source", "patient", "scan", "position", "voxel_ml", "slice_mm")
"""What the index says of a sample: the name of its files, and the fields of ``Prepared`` that are no arrays."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A sample after preprocessing.

    Parameters
    ----------
    image : ndarray of float16, shape (slices, rows, columns)
        In [0, 1].
    labels : ndarray of uint8, shape (slices, rows, columns)
        Classes of a target.
    voxel_ml : float
        Volume of one voxel of the resized image. If the spacing is unknown, voxels of the original are taken as
        1 mm cubes, so that volumes of slices that were cropped differently keep their ratios.
    slice_mm : float or None
        Distance between the slices, if known.
    """

    name: str
    source: str
    patient: str | None
    scan: str
    position: int
    image: NDArray[np.float16]
    labels: NDArray[np.uint8]
    voxel_ml: float
    slice_mm: float | None = None


def prepare(samples: Iterable[Sample], preprocess: Preprocess, target: Target, folder: Path) -> list[Prepared]:
    """Preprocess samples into a folder, or open the folder where that was done before.

    Parameters
    ----------
    folder : Path
        Made when absent. A folder made with other preprocessing, or by another target's code, is refused, and so is
        one with files that Hilum did not write.

    Raises
    ------
    SettingsError
        When the folder is refused.
    BadData
        When there is no sample, or the reader or the target has found faults; the message lists all of them.
    """
    kind = f"{describe(preprocess)} {describe(target)} {', '.join(ENTRY)}"
    key = hashlib.sha256(kind.encode() + _code_of(target)).hexdigest()
    if not (folder / "index.json").exists():
        _write(samples, preprocess, target, folder, key)
    held, entries = _read_index(folder)
    if held != key:
        raise SettingsError(
            "other-preprocessing", f"{folder} holds images prepared otherwise; choose another run folder"
        )
    return [_open(entry, folder) for entry in entries]


def discard(folder: Path) -> None:
    """Remove the folder's index, so that its images are prepared again.

    Raises
    ------
    SettingsError
        When Hilum did not write the index.
    """
    if (folder / "index.json").exists():
        _read_index(folder)
        (folder / "index.json").unlink()


def scans(prepared: Sequence[Prepared]) -> list[list[Prepared]]:
    """Return the samples of each scan, from the feet to the head."""
    members: dict[tuple[str, str], list[Prepared]] = {}
    for sample in prepared:
        members.setdefault((sample.source, sample.scan), []).append(sample)
    return [sorted(scan, key=lambda sample: sample.position) for scan in members.values()]


def pixel_volumes(scan: Sequence[Prepared]) -> NDArray[np.float64]:
    """Return ``voxel_ml`` of every slice of a scan; it differs between slices that were cropped separately."""
    return np.concatenate([np.full(len(sample.image), sample.voxel_ml) for sample in scan])


def _read_index(folder: Path) -> tuple[str, list[dict[str, object]]]:
    try:
        index = read_json(folder / "index.json")
        return index["key"], index["samples"]
    except (SettingsError, KeyError, TypeError) as error:
        raise _foreign(folder, "index.json") from error


def _code_of(target: Target) -> bytes:
    """Return the source code of a target with its own ``label_map``; a plain target is described by its classes."""
    return b"" if type(target) is Target else Path(inspect.getfile(type(target))).read_bytes()


def describe(value: object) -> str:
    """Return a value as text without fields at their defaults, so that a field added later changes no earlier run.

    A field with a default factory is always in the text: adding or removing one does change earlier runs.
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(describe, value))})"
    if not is_dataclass(value):
        return repr(value)
    changed = ((f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default)
    return f"{type(value).__name__}({', '.join(f'{name}={describe(content)}' for name, content in changed)})"


def _write(samples: Iterable[Sample], preprocess: Preprocess, target: Target, folder: Path, key: str) -> None:
    """Fill the folder; the index is written last, so that an interrupted attempt is repeated."""
    _clear(folder)
    entries: list[Mapping[str, object]] = []
    faults = Faults()
    with faults.kept():
        for number, sample in enumerate(samples):
            with faults.kept():
                entries.append(_save(sample, preprocess, target, folder / f"{number:05d}"))
    faults.refuse()
    if not entries:
        raise BadData("empty-data-set", "the data set has no samples")
    sync_tree(folder)  # the index must not outlive a power cut that the images do not
    write_json(folder / "index.json", {"key": key, "samples": entries})


def _save(sample: Sample, preprocess: Preprocess, target: Target, path: Path) -> dict[str, object]:
    labels = target.label_map(sample)
    np.save(path.with_suffix(".image.npy"), preprocess.image(sample))
    np.save(path.with_suffix(".labels.npy"), preprocess.labels(labels, sample))
    computed = {"file": path.name, "voxel_ml": _voxel_ml(sample, preprocess)}
    return {name: computed[name] if name in computed else getattr(sample, name) for name in ENTRY}


def _clear(folder: Path) -> None:
    """Make the folder, or remove the files that an interrupted attempt left in it; refuse it if it has any others."""
    folder.mkdir(parents=True, exist_ok=True)
    left = sorted(folder.iterdir())
    foreign = [path.name for path in left if not LEFT_BEHIND.fullmatch(path.name)]
    if foreign:
        raise _foreign(folder, foreign[0])
    for path in left:
        path.unlink()


def _foreign(folder: Path, name: str) -> SettingsError:
    return SettingsError(
        "foreign-files", f"{folder} holds {name}, which Hilum did not write; choose another run folder"
    )


def _voxel_ml(sample: Sample, preprocess: Preprocess) -> float:
    slice_mm, row_mm, column_mm = sample.spacing_mm or (1.0, 1.0, 1.0)
    rows, columns = preprocess.pixel_sides(sample)
    return slice_mm * (row_mm * rows) * (column_mm * columns) / 1000


def _open(fields: dict[str, object], folder: Path) -> Prepared:
    file = fields.pop("file")
    return Prepared(
        **fields,  # type: ignore[arg-type]  # written by _write
        image=_map(folder / f"{file}.image.npy"),
        labels=_map(folder / f"{file}.labels.npy"),
    )


def _map(path: Path) -> NDArray[Any]:
    with refusing_damaged(path, f"remove {path.parent}, and the same command prepares the images again"):
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
