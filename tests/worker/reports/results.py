"""Findings that are known to be true, and their reports, for the tests of reports and of their readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from tests.factories import chest_hu, ct_series, multiframe_ct
from worker.findings import (
    LEFT,
    RIGHT,
    Algorithm,
    Findings,
    Flag,
    Lungs,
    Mask,
    Measurement,
    Site,
    SliceAreas,
)
from worker.measure import hu_bands
from worker.reports import WrittenObject, write_reports
from worker.severity import severity
from worker.volume import Volume, read_volume

SHAPE = (12, 48, 64)
MADE_AT = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
THRESHOLDS = Algorithm("Thresholds", "1.0", settings=(("upper_hu", "-200"),))
NETWORK = Algorithm("Network", "2.1", weights_sha256="ab" * 32)
TILTED = Flag("gantry-tilt", "The gantry was tilted by 12.0 degrees; volumes allow for it.")
CUT_OFF = Flag(
    "cut-off-feet",
    "The lungs reach beyond the lowest slice (towards the feet): the scan does not cover them whole.",
    withholds_percentage=True,
)


@dataclass(frozen=True)
class Result:
    """The objects written for a study, and the volume and findings that they were made from."""

    volume: Volume
    findings: Findings
    folder: Path
    objects: tuple[WrittenObject, ...]

    def read(self, kind: str) -> Dataset:
        """Return the object of a kind as a data set."""
        return dcmread(self.path(kind))

    def path(self, kind: str) -> Path:
        """Return the path of the object of a kind."""
        return next(item.path for item in self.objects if item.kind == kind)


def findings_of(
    volume: Volume,
    labels: NDArray[np.uint8],
    infection: NDArray[np.bool_],
    *,
    flags: tuple[Flag, ...] = (),
    algorithm: Algorithm = THRESHOLDS,
) -> Findings:
    """Return findings whose figures are computed from the masks."""
    geometry = volume.geometry
    withheld = any(flag.withholds_percentage for flag in flags)

    def measure(site: Site, lung: NDArray[np.bool_]) -> Measurement:
        infected = lung & infection
        lung_ml, infected_ml = (int(m.sum()) * geometry.voxel_volume_ml for m in (lung, infected))
        return Measurement(
            site=site,
            lung_volume_ml=lung_ml,
            infection_volume_ml=infected_ml,
            infected_percent=None if withheld or not lung_ml else 100 * infected_ml / lung_ml,
            lung_mean_hu=float(volume.hu[lung].mean()) if lung.any() else None,
            infection_mean_hu=float(volume.hu[infected].mean()) if infected.any() else None,
        )

    return Findings(
        geometry=geometry,
        lungs=Lungs(labels, geometry),
        infection=Mask(infection, geometry),
        regions=(),
        measurements=(
            measure("left", labels == LEFT),
            measure("right", labels == RIGHT),
            measure("both", labels > 0),
        ),
        areas=SliceAreas(
            (labels > 0).sum((1, 2)) * geometry.pixel_area_mm2, infection.sum((1, 2)) * geometry.pixel_area_mm2
        ),
        bands=hu_bands(volume, Lungs(labels, geometry)),
        severity=None if withheld else severity(Lungs(labels, geometry), Mask(infection, geometry)),
        algorithm=algorithm,
        flags=flags,
    )


def make_result(
    folder: Path,
    *,
    infected: bool = True,
    flags: tuple[Flag, ...] = (),
    algorithm: Algorithm = THRESHOLDS,
    multiframe: bool = False,
    **series: Any,
) -> Result:
    """Write a small CT series and the reports of its true findings; ``series`` is passed to the factory."""
    hu, labels, infection = chest_hu(SHAPE, infected=infected)
    paths = (multiframe_ct if multiframe else ct_series)(folder / "ct", hu, **series)
    return report_masks(folder, paths, labels, infection, flags=flags, algorithm=algorithm)


def report_masks(
    folder: Path,
    paths: Sequence[Path],
    labels: NDArray[np.uint8],
    infection: NDArray[np.bool_],
    **findings: Any,
) -> Result:
    """Write the reports of a series; the masks have the order of its volume's slices."""
    volume = read_volume(paths)
    found = findings_of(volume, labels, infection, **findings)
    out = folder / "out"
    out.mkdir()
    return Result(volume, found, out, write_reports(volume, found, out, made_at=MADE_AT))
