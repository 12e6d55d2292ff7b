"""Folders of DICOM: CT series, with segmentations (SEG) drawn or corrected on them.

Each folder in the given one is a patient. All its DICOM files are read, at any depth, except labels that ``hilum
label`` did not finish. Each SEG belongs to the series it refers to. If several outline a structure, the newest counts,
as a correction. A part drawn after the whole, such as consolidation after infection, is added to it; once all its parts
are drawn after it, they replace it. A whole drawn after parts replaces these; parts in the same SEG as their whole
belong to it. SEGs that Hilum made itself, such as the first labels of ``hilum label``, count as older than any that
others made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from dicom_node.errors import RejectedInput
from dicom_node.folder import files_in
from dicom_node.headers import SeriesHeader, numbers, read_series
from training.datasets.faults import Faults
from training.datasets.own import UNFINISHED
from training.datasets.plausible import require_plausible_masks
from training.datasets.sample import UNIONS, BadData, Sample
from training.datasets.segmentations import read_masks, segmentations
from training.files import LOCK
from worker.volume import Volume, read_volume


def read(folder: Path) -> Iterator[Sample]:
    """Yield one sample for every CT series that a SEG refers to.

    Raises
    ------
    BadData
        After all patients are read, with the faults of all: a folder has no SEG; a SEG's series is missing, lies in two
        folders or is not a volume; a SEG is damaged, of other slices or without a structure that Hilum knows; or the
        lung masks are empty or not on lung. At once: there is no folder.
    """
    patients = folders(folder)
    if not patients:
        raise BadData("missing-file", f"{folder}: expected a folder for each patient, found none")
    faults, lies_in = Faults(), dict[str, Path]()
    for patient in patients:
        with faults.kept():
            for sample in read_patient(patient):
                uid = sample.name.rpartition("/")[2]
                other = lies_in.setdefault(uid, patient)
                if other != patient:
                    raise BadData("same-series", f"{patient}: the CT series {uid} lies in {other} too; remove one")
                yield sample
    faults.refuse()


def folders(folder: Path) -> list[Path]:
    """Return the folders of the patients; those of runs are left out.

    Raises
    ------
    BadData
        When DICOM lies beside them: it may be the folder of a single patient.
    """
    found = sorted(folder.iterdir())
    if any(path.is_file() and _may_be_dicom(path) for path in found):
        expected = f"{folder}: expected a folder of DICOM for each patient, found DICOM itself"
        raise BadData("loose-files", f"{expected}; if this is a patient's folder, name the folder above it")
    return [path for path in found if path.is_dir() and not holds_only_runs(path)]


def holds_only_runs(folder: Path) -> bool:
    """Whether a folder among those of the patients is that of a run, or of runs, and has no DICOM."""
    return any(folder.rglob(LOCK)) and not any(files(folder))


def files(folder: Path) -> Iterator[Path]:
    """Yield the DICOM files that are read below a folder."""
    for path in files_in(folder):
        if UNFINISHED not in path.relative_to(folder).parts and _may_be_dicom(path):
            yield path


def _may_be_dicom(path: Path) -> bool:
    """Whether a file begins with DICOM's preamble and prefix (PS3.10 7.1) or, without these, with group 2 or 8."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or start[:2] in {b"\x02\0", b"\x08\0"}


def read_patient(folder: Path) -> Iterator[Sample]:
    """Yield the samples of one of a patient's folders."""
    series = read_series(files(folder))
    ct = {s.series_instance_uid: s for s in series if s.ct_images}
    drawn_on: dict[str, list[Path]] = {}
    for path, referred in segmentations(series):
        drawn_on.setdefault(referred, []).append(path)
    if not drawn_on:
        raise BadData("missing-mask", f"{folder}: expected a DICOM SEG, found none")
    for uid, paths in drawn_on.items():
        if uid not in ct:
            raise BadData("missing-file", f"{paths[0]}: the CT series it was drawn on is not in {folder}")
        volume, window_hu = read_ct(ct[uid], folder)
        masks = combine(read_masks(path, volume) for path in paths)
        name = f"{folder.name}/{uid}"
        yield require_plausible_masks(volume_sample(volume, name, "dicom", folder.name, masks, window_hu), folder)


def combine(drawn: Iterable[Mapping[str, NDArray[np.bool_]]]) -> dict[str, NDArray[np.bool_]]:
    """Return the masks by structure of several SEGs, from old to new, as their newest ones leave them."""
    masks: dict[str, NDArray[np.bool_]] = {}
    later: dict[str, set[str]] = {union: set() for union in UNIONS}  # parts that are newer than their whole
    for newer in drawn:
        masks |= newer
        for union, parts in UNIONS.items():
            if union in newer:
                later[union].clear()
                masks = {name: mask for name, mask in masks.items() if name in newer or name not in parts}
                # A label map has one label for each voxel: the whole leaves out the parts drawn beside it.
                masks[union] = np.logical_or.reduce([newer[name] for name in (union, *parts) if name in newer])
                continue
            later[union] |= newer.keys() & set(parts)
            if later[union] == set(parts):
                masks.pop(union, None)
            elif union in masks:
                masks[union] = np.logical_or.reduce([masks[union], *(masks[part] for part in later[union])])
    return masks


def read_ct(series: SeriesHeader, folder: Path) -> tuple[Volume, tuple[float, float] | None]:
    """Return the volume of a series and the window in its header, (lower, upper) HU; None if that has no numbers.

    PS3.3 C.11.2.1.2.1: a linear window of center c and width w reaches from c - 0.5 - (w - 1) / 2 to
    c - 0.5 + (w - 1) / 2.
    """
    paths = [image.path for image in series.ct_images]
    try:
        volume = read_volume(paths)
    except RejectedInput as error:
        raise BadData(error.code, f"{folder}: {error.message}") from error
    header = dcmread(paths[0], stop_before_pixels=True, specific_tags=["WindowCenter", "WindowWidth"])
    center, width = (numbers(header.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return volume, None
    middle, half = center[0] - 0.5, (width[0] - 1) / 2
    return volume, (middle - half, middle + half)


def volume_sample(
    volume: Volume,
    name: str,
    source: str,
    patient: str,
    masks: Mapping[str, NDArray[np.bool_]],
    window_hu: tuple[float, float] | None,
    infected: NDArray[np.bool_] | None = None,
) -> Sample:
    """Return a sample whose axes run feet to head, front to back, right to left."""
    anatomical = volume.geometry.anatomical
    return Sample(
        name=name,
        source=source,
        patient=patient,
        scan=name,
        position=0,
        image=anatomical(volume.hu),
        intensity="hu",
        masks={structure: anatomical(mask) for structure, mask in masks.items()},
        spacing_mm=volume.geometry.anatomical_spacing_mm,
        tilt_cosine=1000 * volume.geometry.voxel_volume_ml / math.prod(volume.geometry.spacing_mm),
        window_hu=window_hu,
        infected=infected,
    )
