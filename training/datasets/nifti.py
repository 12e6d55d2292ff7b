"""NIfTI images with masks, in the layouts of three public sets and of ``hilum label``.

::

    COVID-19-CT-Seg (Ma et al. 2021)        COVID-19-CT-Seg_20cases/NAME.nii.gz
                                            Lung_Mask/NAME.nii.gz        1 left, 2 right
                                            Infection_Mask/NAME.nii.gz   1
    MosMedData (Morozov et al. 2020)        studies/CT-1/study_0255.nii.gz
                                            masks/study_0255_mask.nii.gz  1
    COVID-19-20 (Roth et al. 2022)          Train/NAME_ct.nii.gz
                                            Train/NAME_seg.nii.gz         1
    hilum label                             PATIENT/labels/ct.nii.gz
                                            PATIENT/labels/lungs.nii.gz   1 left, 2 right
                                            PATIENT/labels/infection.nii.gz  1
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import OrientationError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from training.datasets.calibrate import to_hu
from training.datasets.faults import Faults
from training.datasets.images import list_images
from training.datasets.plausible import require_plausible_masks
from training.datasets.sample import INFECTION, LEFT_LUNG, RIGHT_LUNG, BadData, Sample

Labels = Mapping[str, tuple[Path, int]]
"""By structure: the file of the mask and the value that means the structure."""

_DAMAGES = (ImageFileError, HeaderDataError, OrientationError, ValueError, OSError, EOFError, zlib.error)
"""What nibabel raises on a file that is damaged or no NIfTI image."""

RADIOPAEDIA_WINDOW_HU = (-1250.0, 250.0)
"""Values 0 to 255 of COVID-19-CT-Seg's scans from Radiopaedia span this window, as its benchmark's README says."""


def read_covid_19_ct_seg(folder: Path) -> Iterator[Sample]:
    """Yield the scans of COVID-19-CT-Seg."""
    for path in list_images(folder / "COVID-19-CT-Seg_20cases", "*.nii.gz"):
        lungs = folder / "Lung_Mask" / path.name
        infection = folder / "Infection_Mask" / path.name
        labels = {LEFT_LUNG: (lungs, 1), RIGHT_LUNG: (lungs, 2), INFECTION: (infection, 1)}
        sample = read_scan(path, labels, "covid-19-ct-seg", windowed=path.name.startswith("radiopaedia"))
        # Some cases of Radiopaedia have two scans, as in radiopaedia_10_85902_1 and radiopaedia_10_85902_3.
        yield replace(sample, patient="_".join(sample.name.split("_")[:2]))


def read_mosmed(folder: Path) -> Iterator[Sample]:
    """Yield those scans of MosMedData that have a mask; the others were not annotated."""
    for mask in list_images(folder / "masks", "*_mask.nii.gz"):
        name = mask.name.replace("_mask", "")
        found = sorted((folder / "studies").glob(f"*/{name}"))
        if not found:
            raise BadData("missing-file", f"{mask}: no studies/*/{name} for it")
        yield read_scan(found[0], {INFECTION: (mask, 1)}, "mosmed")


def read_covid_19_20(folder: Path) -> Iterator[Sample]:
    """Yield the training scans of the COVID-19-20 challenge."""
    for path in list_images(folder / "Train", "*_ct.nii.gz"):
        mask = path.with_name(path.name.replace("_ct.nii.gz", "_seg.nii.gz"))
        yield read_scan(path, {INFECTION: (mask, 1)}, "covid-19-20")


def read_labels(folder: Path) -> Iterator[Sample]:
    """Yield the scans that ``hilum label`` wrote, with the masks that annotators corrected."""
    patients = labelled_folders(folder)
    if not patients:
        raise BadData("missing-file", f"{folder}: expected PATIENT/labels, as `hilum label` writes them; found none")
    faults = Faults()
    for path in patients:
        with faults.kept():
            ct, lungs, infection = label_files(path)
            labels = {LEFT_LUNG: (lungs, 1), RIGHT_LUNG: (lungs, 2), INFECTION: (infection, 1)}
            yield replace(read_scan(ct, labels, "labels"), name=path.name, patient=path.name, scan=path.name)
    faults.refuse()


def labelled_folders(folder: Path) -> list[Path]:
    """Return the folders of the patients with labels."""
    return sorted(labels.parent for labels in folder.glob("*/labels"))


def label_files(patient: Path) -> tuple[Path, Path, Path]:
    """Return the image that ``hilum label`` wrote, the mask of lungs and that of infection."""
    ct, lungs, infection = (patient / "labels" / f"{name}.nii.gz" for name in ("ct", "lungs", "infection"))
    return ct, lungs, infection


def read_scan(path: Path, labels: Labels, source: str, *, windowed: bool = False) -> Sample:
    """Return one scan with its masks.

    Parameters
    ----------
    windowed : bool
        Whether the image's values, 0 to 255, span ``RADIOPAEDIA_WINDOW_HU``.

    Raises
    ------
    BadData
        When a file is missing, cut short or no NIfTI image; the image has voxels that are not finite numbers, or are
        outside the window; a mask has another shape or place than the image, or values without a meaning; or the lung
        masks are empty or not on lung.
    """
    image = _read(path)
    if not np.isfinite(image.voxels).all():
        raise BadData("not-finite", f"{path}: some voxels are not numbers")
    masks: dict[str, NDArray[np.bool_]] = {}
    for mask_path in dict.fromkeys(mask_path for mask_path, _ in labels.values()):
        mask = _read(mask_path)
        if mask.voxels.shape != image.voxels.shape or not np.allclose(mask.affine, image.affine, atol=1e-2):
            raise BadData("wrong-shape", f"{mask_path}: its voxels do not lie on those of {path}")
        values = {structure: value for structure, (drawn_in, value) in labels.items() if drawn_in == mask_path}
        masks |= _structures(mask.voxels, values, mask_path)
    if windowed:
        lower, upper = RADIOPAEDIA_WINDOW_HU
        darkest, brightest = image.voxels.min(), image.voxels.max()
        if darkest < 0 or brightest > 255:
            came = f"got {darkest:g} to {brightest:g}"
            raise BadData("not-windowed", f"{path}: expected 0 to 255 of the window {lower:g} to {upper:g} HU, {came}")
        hu = to_hu(image.voxels, lower, (upper - lower) / 255)
    else:
        hu = np.rint(np.clip(image.voxels, -32768, 32767)).astype(np.int16)
    name = path.name.removesuffix(".nii.gz")
    sample = Sample(
        name=name,
        source=source,
        patient=name,
        scan=name,
        position=0,
        image=hu,
        intensity="hu",
        masks=masks,
        spacing_mm=image.spacing_mm,
        tilt_cosine=float(abs(np.linalg.det(image.affine[:3, :3])) / np.prod(image.spacing_mm)),
    )
    return require_plausible_masks(sample, path)


def upright(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array with NIfTI's axes (to the right, to the front, to the head) in a sample's axes."""
    return array.transpose(2, 1, 0)[:, ::-1, ::-1]


def _structures(voxels: NDArray[Any], values: Mapping[str, int], path: Path) -> dict[str, NDArray[np.bool_]]:
    """Return the mask of each structure by its value in a mask file; 0 means no structure."""
    masks = {structure: voxels == value for structure, value in values.items()}
    unknown = voxels[~np.logical_or.reduce([voxels == 0, *masks.values()])]
    if unknown.size:
        raise BadData(
            "unknown-label",
            f"{path}: {unknown.size} voxels are {unknown.flat[0]:g} or the like; expected 0 and "
            + ", ".join(f"{value} for {structure}" for structure, value in values.items()),
        )
    return masks


@dataclass(frozen=True, eq=False)
class _Image:
    """A file's content: voxels in a sample's axes, and the affine of NIfTI's axes (to the right, front and head)."""

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]


def _read(path: Path) -> _Image:
    try:
        stored: Any = nibabel.loadsave.load(path)
        if len(stored.shape) != 3:
            raise BadData("wrong-shape", f"{path}: expected three axes, got {stored.shape}")
        if stored.get_data_dtype().kind not in "iuf":
            raise BadData("not-gray", f"{path}: expected one real number a voxel, got {stored.get_data_dtype()}")
        image = nibabel.funcs.as_closest_canonical(stored)
        voxels = upright(np.asanyarray(image.dataobj))
    except FileNotFoundError:
        raise BadData("missing-file", f"{path}: missing") from None
    except _DAMAGES as error:
        raise BadData("unreadable-file", f"{path}: {error}") from error
    across, along, up = (float(mm) for mm in image.header.get_zooms()[:3])
    return _Image(voxels, image.affine, (up, along, across))
