"""One image with its labels, in the same form for all data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import RejectedInput

Intensity = Literal["hu", "gray"]
"""``hu``: Hounsfield units, true or estimated; ``gray``: 0 to 255 of an unknown window."""

LUNG = "lung"
LEFT_LUNG = "left_lung"
RIGHT_LUNG = "right_lung"
INFECTION = "infection"
GROUND_GLASS_OPACITY = "ground_glass_opacity"
CONSOLIDATION = "consolidation"
PLEURAL_EFFUSION = "pleural_effusion"

UNIONS: Mapping[str, tuple[str, ...]] = {
    LUNG: (LEFT_LUNG, RIGHT_LUNG),
    INFECTION: (GROUND_GLASS_OPACITY, CONSOLIDATION),
}
"""Structures that are the union of finer ones. Pleural effusion lies outside the lung: it is no infection."""


class BadData(RejectedInput):
    """A file of a data set that cannot be used; the message may name the file, because it is the user's own."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A slice or a whole scan, with the masks somebody drew on it.

    Parameters
    ----------
    name : str
        Unique within the source.
    source : str
        The data set's name.
    patient : str or None
        Whose image it is; None if the set has no identities.
    scan : str
        The scan it belongs to. Samples of one scan stack to a volume, in the order of ``position``.
    position : int
        Place of the first slice within its scan.
    image : ndarray, shape (slices, rows, columns)
        int16 HU or uint8 gray, as ``intensity`` says; slices from the feet to the head, rows from the front
        to the back, columns from the patient's right to the left.
    masks : mapping of str to ndarray of bool, shape (slices, rows, columns)
        A structure that is not among the keys was not annotated: unknown, not absent.
    spacing_mm : tuple of float or None
        Along (slice, row, column).
    tilt_cosine : float
        Cosine of the gantry's tilt: the share of the spacing's product that is a voxel's volume.
    window_hu : tuple of float or None
        (lower, upper) of the window in the DICOM header, PS3.3 C.11.2.1.2.
    infected : ndarray of bool, shape (slices,), or None
        A radiologist's verdict on each slice, in sets without masks.
    usual_slice_mm : float or None
        Approximate distance between slices, if the spacing is unknown.

    Raises
    ------
    BadData
        When an image is empty or a mask has another shape.
    """

    name: str
    source: str
    patient: str | None
    scan: str
    position: int
    image: NDArray[np.int16] | NDArray[np.uint8]
    intensity: Intensity
    masks: Mapping[str, NDArray[np.bool_]]
    spacing_mm: tuple[float, float, float] | None = None
    tilt_cosine: float = 1.0
    window_hu: tuple[float, float] | None = None
    infected: NDArray[np.bool_] | None = None
    usual_slice_mm: float | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.size == 0:
            raise BadData(
                "empty-image", f"{self.name}: expected an image of (slices, rows, columns), got {self.image.shape}"
            )
        for structure, mask in self.masks.items():
            if mask.shape != self.image.shape:
                raise BadData(
                    "wrong-shape", f"{self.name}: the mask of {structure} is {mask.shape}, the image {self.image.shape}"
                )

    @property
    def slice_mm(self) -> float | None:
        """Distance between slices, exact or approximate; None if unknown."""
        return self.usual_slice_mm if self.spacing_mm is None else self.spacing_mm[0]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel; NaN if the spacing is unknown."""
        return math.prod(self.spacing_mm or [math.nan]) * self.tilt_cosine / 1000

    def mask(self, structure: str) -> NDArray[np.bool_]:
        """Return the mask of a structure, or the union of the masks of its parts.

        Raises
        ------
        BadData
            When neither it nor all its parts were annotated.
        """
        if structure in self.masks:
            return self.masks[structure]
        parts = UNIONS.get(structure, ())
        if parts and all(part in self.masks for part in parts):
            union: NDArray[np.bool_] = np.logical_or.reduce([self.masks[part] for part in parts])
            return union
        message = f"{self.name}: no mask of {structure}; annotated are {', '.join(sorted(self.masks)) or 'none'}"
        drawn = [part for part in parts if part in self.masks]
        if drawn:  # a part is not taken for the whole: the rest would be learned as healthy
            missing = " and ".join(part for part in parts if part not in drawn)
            message += f". {drawn[0]} is only a part of it: draw {missing} too, or name the segment {structure}"
            message += " where it holds all of it"
        raise BadData("missing-mask", message)
