"""Infection by Wu et al.'s difference of thresholds, cleaned up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.findings import Lungs, Mask
from worker.grid import Bools, Grid, bounding_box, filled
from worker.volume import Volume

AERATED_HU = -750
"""Wu et al. 2020: lung below this is taken for healthy."""

BLOCK_MM = 1.6

VESSEL_HU = -100
"""Vessels and consolidation are denser; their size tells them apart."""

VESSEL_RADIUS_MM = 6.0
"""A dense structure that holds a ball of this radius is consolidation."""

RIM_MM = 3.2
"""How far partial volume and motion blur a vessel into the lung around it."""

EDGE_MM = 2.0
"""How far the lung's border is blurred."""

SURE_RADIUS_MM, DOUBTFUL_RADIUS_MM = 3.0, 2.0
SPREAD_MM = 4.0

CLOSING_MM = 5.0
"""Radius of the closing that takes in consolidation surrounded by ground glass."""


def segment_infection(volume: Volume, lungs: Lungs) -> Mask:
    """Segment what is denser than -750 HU in the lungs, without vessels, airway walls and the lungs' edge.

    Notes
    -----
    Wu et al. 2020 subtract mask(-750 HU) from mask(-200 HU); here the closed lungs take the place of the latter.
    The difference alone also contains every vessel, airway wall and the blurred edge of the lung: a fifth of a
    healthy lung. A lesion must therefore contain a ball of opacity of 3 mm radius, away from the lung's edge and
    from the rims of vessels; it then takes in what is denser than -750 HU within 4 mm and not thinner than 3 mm.
    These lengths are Hilum's own, set on a handful of scans.

    Limits: a threshold cannot tell infection from oedema, atelectasis, fibrosis or tumour. Expiration, motion
    and thick slices raise the result; opacity below -750 HU, lesions thinner than 6 mm, and consolidation
    without a ground-glass border lower it.
    """
    geometry = volume.geometry
    infection = np.zeros(volume.hu.shape, np.bool_)
    hu, lung, result = (geometry.anatomical(array) for array in (volume.hu, lungs.labels != 0, infection))
    if lung.any():
        box = bounding_box(lung)
        hu, lung = hu[box], lung[box]
        grid = Grid.about(BLOCK_MM, geometry)
        smooth = grid.smoothed(grid.shrink(hu), 0.8)
        lesions = _lesions(grid, smooth, grid.share(lung) >= 0.5)
        result[box] = lung & grid.expand(lesions, hu.shape)
    return Mask(infection, geometry)


def _lesions(grid: Grid, smooth: NDArray[np.float32], lung: Bools) -> Bools:
    opacity = lung & (smooth > AERATED_HU)
    evident = opacity & ~_vessels(grid, smooth, lung) & grid.eroded(lung, EDGE_MM)
    doubtful = grid.components(grid.opened(evident, DOUBTFUL_RADIUS_MM))
    sure = np.unique(doubtful[grid.opened(evident, SURE_RADIUS_MM)])
    core = np.isin(doubtful, sure[sure > 0])
    around = grid.closed(grid.dilated(core, SPREAD_MM), CLOSING_MM) if core.any() else core
    return core | grid.opened(opacity & filled(around), 1.6)


def _vessels(grid: Grid, smooth: NDArray[np.float32], lung: Bools) -> Bools:
    """Return dense structures that are too thin for consolidation, with their rims."""
    dense = lung & (smooth > VESSEL_HU)
    deep = grid.depth_mm(dense) > VESSEL_RADIUS_MM
    thick = grid.depth_mm(deep) > -VESSEL_RADIUS_MM if deep.any() else deep
    return grid.dilated(dense & ~thick, RIM_MM)
