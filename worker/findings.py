"""What the worker finds: masks, regions, measurements, and how far they may be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worker.geometry import Geometry

Side = Literal["left", "right"]
Site = Literal["left", "right", "both"]
Level = Literal["upper", "middle", "lower"]

LEFT, RIGHT = 1, 2
"""Values of ``Lungs.labels``; 0 is outside."""


@dataclass(frozen=True)
class Mask:
    """A boolean (slice, row, column) array and the geometry of its voxels."""

    array: NDArray[np.bool_]
    geometry: Geometry

    @property
    def volume_ml(self) -> float:
        """Volume of the true voxels."""
        return int(np.count_nonzero(self.array)) * self.geometry.voxel_volume_ml


@dataclass(frozen=True)
class Lungs:
    """Both lungs as one label map, uint8 (slice, row, column): 0 outside, 1 left, 2 right.

    Left and right are the patient's own (LPS), whatever the image's orientation.
    """

    labels: NDArray[np.uint8]
    geometry: Geometry

    @property
    def both(self) -> Mask:
        """Left and right together."""
        return Mask(self.labels != 0, self.geometry)

    @property
    def slice_voxels(self) -> NDArray[np.int64]:
        """Number of lung voxels in every slice, counted slice by slice so that no second volume is allocated."""
        return np.array([np.count_nonzero(plane) for plane in self.labels])

    def side(self, side: Side) -> Mask:
        """One lung."""
        return Mask(self.labels == (LEFT if side == "left" else RIGHT), self.geometry)


@dataclass(frozen=True)
class Region:
    """A connected candidate region of infection.

    Parameters
    ----------
    first, last : tuple of int
        Corners of the bounding box in (slice, row, column), both inclusive.
    probability : float or None
        Mean over its voxels of the probability of infection that the network gave them; None where no network ran.
    reason : str
        Why it was kept or removed, for the log and the reader.
    """

    volume_ml: float
    mean_hu: float
    probability: float | None
    first: tuple[int, int, int]
    last: tuple[int, int, int]
    kept: bool
    reason: str


@dataclass(frozen=True)
class Measurement:
    """The figures of one lung or of both.

    ``infected_percent`` is PoIR, infected volume / lung volume x 100 (Wu et al. 2020). It is None if a flag
    withholds it, or if the lung has no volume. Mean HUs are None if there is nothing to average.
    """

    site: Site
    lung_volume_ml: float
    infection_volume_ml: float
    infected_percent: float | None
    lung_mean_hu: float | None
    infection_mean_hu: float | None


@dataclass(frozen=True)
class SliceAreas:
    """Areas in mm2, one value per slice in the order of the geometry: the area-plot of Shivdeo et al. 2021."""

    lung_mm2: NDArray[np.float64]
    infection_mm2: NDArray[np.float64]


@dataclass(frozen=True)
class HuBand:
    """Lung volume from one HU (inclusive) to another (exclusive), None for no limit: a range of HU, not a finding."""

    from_hu: int | None
    to_hu: int | None
    left_ml: float
    right_ml: float

    @property
    def both_ml(self) -> float:
        """Volume in both lungs."""
        return self.left_ml + self.right_ml


@dataclass(frozen=True)
class Zone:
    """One lung within a third of the height of both: the percentage infected and its score, 0 to 4.

    Both are None if too little aerated lung was found there (`worker.severity.LEAST_ZONE_ML`).
    """

    side: Side
    level: Level
    infected_percent: float | None
    score: int | None


@dataclass(frozen=True)
class Severity:
    """How much of the lungs is involved: a score of 0 to 5 for both together, and six zones, the upper right first."""

    whole_lung_score: int
    zones: tuple[Zone, ...]

    @property
    def six_zone_score(self) -> int | None:
        """The sum of the zones' scores, 0 to 24; None if a zone has no score, for it may be the most diseased one."""
        scores = [zone.score for zone in self.zones if zone.score is not None]
        return sum(scores) if len(scores) == len(self.zones) else None


@dataclass(frozen=True)
class Flag:
    """A doubt that is reported with the figures; some doubts withhold the percentage."""

    code: str
    message: str
    withholds_percentage: bool = False


@dataclass(frozen=True)
class Algorithm:
    """The algorithm that made the findings (TID 4019): name, version, and the hash of its weights if it has any.

    ``settings`` are the ones that change results; the UIDs of the results depend on them.
    """

    name: str
    version: str
    weights_sha256: str | None = None
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Findings:
    """Everything the reports are made of. All masks share the volume's geometry.

    ``severity`` is None if a flag withholds the percentage on which it is based.
    """

    geometry: Geometry
    lungs: Lungs
    infection: Mask
    regions: tuple[Region, ...]
    measurements: tuple[Measurement, ...]
    areas: SliceAreas
    bands: tuple[HuBand, ...]
    severity: Severity | None
    algorithm: Algorithm
    flags: tuple[Flag, ...] = ()

    @property
    def has_infection(self) -> bool:
        """Whether any infection was found in the lungs."""
        return bool(self.areas.infection_mm2.any())

    def measurement(self, site: Site) -> Measurement:
        """Return the figures of one site."""
        return next(m for m in self.measurements if m.site == site)
