"""Slices of COVID-19-CT-Seg (Ma et al. 2021) as 8-bit images, with lung and infection masks.

::

    index.csv                name, patient, volume, slice_index, image
    pseudo_hu.csv            volume, hu_at_gray0, hu_per_gray; a volume may be a pattern such as NAME*
    image/*.jpg  lung/*.png  infection/*.png

Each slice was cropped to the chest separately. Images lie on their side: a quarter turn makes those of the
coronacases upright, but the radiopaedia ones upside down, with the spine at the top, so these are mirrored as
well. By the window that ``pseudo_hu.csv`` names for the radiopaedia scans, the lung of one has -1091 HU, which
is impossible; their HU are estimated from each image instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.calibrate import scale_of_window, to_hu
from training.datasets.images import read_gray, read_mask
from training.datasets.sample import INFECTION, LUNG, BadData, Sample
from training.datasets.tables import read_number, read_rows

ESTIMATED_HU = "8-bit slices, cropped to the chest, in estimated HU"
"""How these slices differ from the papers' scans; shown beside the figures of every network."""

NO_TRUE_STACKS = (
    "each slice was cropped by itself and some are missing, so that those of a stack do not lie quite on each other"
)
"""Why these slices make no true stacks; shown beside the figures of 2.5D and 3D networks."""

CORONACASES_MM = 1.0
"""Approximate distance between slices; in the radiopaedia scans it is several mm, but not known exactly."""


def read(folder: Path) -> Iterator[Sample]:
    """Yield the slices in the order of the index, in estimated HU.

    Raises
    ------
    BadData
        When a file is missing or malformed, or a volume has no row in ``pseudo_hu.csv``.
    """
    index = folder / "index.csv"
    for row in read_rows(index, {"name", "patient", "volume", "slice_index", "image"}):
        path, is_windowed = folder / "image" / row["image"], row["volume"].startswith("radiopaedia")
        gray = _stand_up(read_gray(path), upside_down=is_windowed)
        lung, infection = (
            _stand_up(read_mask(folder / name / f"{row['name']}.png"), upside_down=is_windowed)
            for name in ("lung", "infection")
        )
        if not gray.shape == lung.shape == infection.shape:
            shapes = f"image {gray.shape}, lung {lung.shape}, infection {infection.shape}"
            raise BadData("wrong-shape", f"{path}: {shapes}")
        scale = (
            scale_of_window(gray, lung, lung & ~infection, str(path))
            if is_windowed
            else _scale_of(row["volume"], folder / "pseudo_hu.csv")
        )
        yield Sample(
            name=row["name"],
            source="infection-slices",
            patient=row["patient"],
            scan=row["volume"],
            position=int(read_number(index, row, "slice_index")),
            image=to_hu(gray, *scale)[None],
            intensity="hu",
            masks={LUNG: lung[None], INFECTION: infection[None]},
            usual_slice_mm=None if is_windowed else CORONACASES_MM,
        )


def _stand_up(image: NDArray[Any], *, upside_down: bool) -> NDArray[Any]:
    upright = np.rot90(image)
    return upright[::-1] if upside_down else upright


def _scale_of(volume: str, path: Path) -> tuple[float, float]:
    for row in read_rows(path, {"volume", "hu_at_gray0", "hu_per_gray"}):
        if fnmatch(volume, row["volume"]):
            return read_number(path, row, "hu_at_gray0"), read_number(path, row, "hu_per_gray")
    raise BadData("no-gray-scale", f"{path}: has no row for the volume {volume}")
