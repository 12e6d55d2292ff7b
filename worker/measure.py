"""The figures: volumes, proportion of infected region, mean HU, and areas slice by slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.findings import LEFT, RIGHT, HuBand, Lungs, Mask, Measurement, Site, SliceAreas
from worker.volume import Volume

_VALUES: dict[Site, tuple[int, ...]] = {"left": (LEFT,), "right": (RIGHT,), "both": (LEFT, RIGHT)}

BAND_EDGES_HU = (-950, -750, -400, 0)
"""Where one HU band of the lung ends and the next begins: those of 3D Slicer's Lung CT Analyzer.

That tool names them emphysema, inflated, infiltrated, collapsed and vessels. Here they are bands of HU and no
more: what lies in a band depends on breath, kernel and slice thickness too.
"""


def measure(volume: Volume, lungs: Lungs, infection: Mask) -> tuple[Measurement, ...]:
    """Measure both lungs together, then the left, then the right.

    Raises
    ------
    Defect
        The masks do not lie on the volume's voxels.

    Notes
    -----
    PoIR = volume of infected regions / volume of intact lung x 100 %, Wu et al. 2020, eq. 2. Infection
    outside the lungs does not count. PoIR is None for a lung of no volume.
    """
    lungs.geometry.require_same(volume.geometry)
    infection.geometry.require_same(volume.geometry)
    lung_voxels, sick_voxels = (voxels.sum(axis=0) for voxels in voxels_by_slice(lungs.labels, infection.array))
    lung_hu, sick_hu = _sums_of_hu(volume.hu, lungs.labels), _sums_of_hu(volume.hu, lungs.labels, infection.array)
    voxel_ml = volume.geometry.voxel_volume_ml

    def at(site: Site) -> Measurement:
        values = list(_VALUES[site])
        lung, sick = int(lung_voxels[values].sum()), int(sick_voxels[values].sum())
        return Measurement(
            site=site,
            lung_volume_ml=lung * voxel_ml,
            infection_volume_ml=sick * voxel_ml,
            infected_percent=100.0 * sick / lung if lung else None,
            lung_mean_hu=float(lung_hu[values].sum() / lung) if lung else None,
            infection_mean_hu=float(sick_hu[values].sum() / sick) if sick else None,
        )

    return at("both"), at("left"), at("right")


def slice_areas(lungs: Lungs, infection: Mask) -> SliceAreas:
    """Return the area of lung and of infection in every slice (Shivdeo et al. 2021, area-plot)."""
    lung, sick = (voxels.sum(axis=1) for voxels in voxels_by_slice(lungs.labels, infection.array))
    pixel_mm2 = np.float64(lungs.geometry.pixel_area_mm2)
    return SliceAreas(lung_mm2=lung * pixel_mm2, infection_mm2=sick * pixel_mm2)


def voxels_by_slice(
    labels: NDArray[np.uint8], infected: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of voxels of lung and of infected lung, each (slice, label); label 0 is not counted.

    They are counted slice by slice, so that no second volume is allocated.
    """
    lung, sick = np.zeros((2, len(labels), 3), np.int64)
    for index, (plane, ill) in enumerate(zip(labels, infected, strict=True)):
        of_the_ill = plane[ill]
        for label in (LEFT, RIGHT):
            lung[index, label] = np.count_nonzero(plane == label)
            sick[index, label] = np.count_nonzero(of_the_ill == label)
    return lung, sick


def hu_bands(volume: Volume, lungs: Lungs) -> tuple[HuBand, ...]:
    """Return how much of each lung lies in each band of HU, from the lowest to the highest."""
    below = np.zeros((3, len(BAND_EDGES_HU) + 2), np.int64)  # voxels below (label, edge); none below the first edge
    for plane, values in zip(lungs.labels, volume.hu, strict=True):
        for label in (LEFT, RIGHT):
            inside = values[plane == label]
            below[label, 1:] += [*(np.count_nonzero(inside < edge) for edge in BAND_EDGES_HU), inside.size]
    left_ml, right_ml = (np.diff(below[label]) * volume.geometry.voxel_volume_ml for label in (LEFT, RIGHT))
    edges = (None, *BAND_EDGES_HU, None)
    return tuple(
        HuBand(start, end, float(left), float(right))
        for start, end, left, right in zip(edges[:-1], edges[1:], left_ml, right_ml, strict=True)
    )


def _sums_of_hu(
    hu: NDArray[np.int16], labels: NDArray[np.uint8], within: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Return the sum of HU of each label, ``within`` a mask if one is given; summed slice by slice, as above."""
    sums = np.zeros(3, np.int64)
    for index, (plane, values) in enumerate(zip(labels, hu, strict=True)):
        for label in (LEFT, RIGHT):
            chosen = plane == label
            sums[label] += values[chosen if within is None else chosen & within[index]].sum(dtype=np.int64)
    return sums
