"""One slice each of 200 scans with lung masks: "Finding lungs in CT data" (Kaggle), as one npz.

``image`` int16 (n, rows, columns), ``lung`` bool, ``name``. Values are HU-like but compressed: air reads
about -805. Each image is calibrated by its modes of air and of soft tissue or fat.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from training.datasets.calibrate import AIR_HU, FAT_HU, SOFT_TISSUE_HU, line_through, mode, to_hu
from training.datasets.sample import LUNG, BadData, Sample

PADDING = -1300
"""Values below lie outside the scanner's field of view."""

DARKEST_HU = -1024
"""The lowest HU that CT scanners give."""

FAT_BELOW = -30
"""A soft-tissue mode below this is fat: the patient has more of it than of muscle in the slice."""


_DAMAGES = (ValueError, EOFError, OSError, RuntimeError, BadZipFile, zlib.error)
"""What NumPy and zipfile raise on a file that is damaged."""


def read(folder: Path) -> Iterator[Sample]:
    """Yield the slices in the order of the file, in estimated HU; padding reads as air.

    Raises
    ------
    BadData
        When the file is missing or damaged, lacks an array, or its arrays do not belong together.
    """
    path = folder / "lung-slices.npz"
    if not path.exists():
        raise BadData("missing-file", f"{path}: missing")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = {"image", "lung", "name"} - set(arrays)
            if missing:
                raise BadData(
                    "missing-array", f"{path}: expected arrays image, lung and name; missing {sorted(missing)}"
                )
            images, lungs, names = arrays["image"], arrays["lung"], arrays["name"]
    except _DAMAGES as error:
        raise BadData("unreadable-file", f"{path}: {error}") from error
    if images.shape != lungs.shape or images.ndim != 3 or names.shape != images.shape[:1]:
        raise BadData("wrong-shape", f"{path}: image {images.shape}, lung {lungs.shape}, name {names.shape}")
    if images.dtype != np.int16 or lungs.dtype != np.bool_:
        types = f"image {images.dtype}, lung {lungs.dtype}"
        raise BadData("wrong-type", f"{path}: expected image int16 and lung bool, got {types}")
    for image, lung, name in zip(images, lungs, names, strict=True):
        yield Sample(
            name=str(name),
            source="lung-slices",
            patient=str(name).split("_Z_")[0],
            scan=str(name),
            position=0,
            image=_calibrated(image, lung, f"{path}, {name}")[None],
            intensity="hu",
            masks={LUNG: lung[None]},
        )


def _calibrated(image: NDArray[np.int16], lung: NDArray[np.bool_], where: str) -> NDArray[np.int16]:
    outside = image[~lung]
    air = mode(outside, PADDING, -500, 10, where)
    soft = mode(outside, -250, 250, 10, where)
    soft_hu = FAT_HU if soft < FAT_BELOW else SOFT_TISSUE_HU
    hu = to_hu(image, *line_through(air, AIR_HU, soft, soft_hu))
    return np.where(image < PADDING, np.int16(AIR_HU), np.maximum(hu, np.int16(DARKEST_HU)))
