"""Ground-glass and consolidated lesions, mostly in the periphery and towards the back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.phantom.shapes import Field, Point, Space, ellipsoid, smooth_noise

GROUND_GLASS_HU, CONSOLIDATION_HU = -600.0, 10.0
LESIONS = 11
CONSOLIDATED = 4
"""How many of the lesions have a consolidated core."""

ROUGHNESS_MM = 3.5


def grow_lesions(space: Space, lung: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return the fields of ground-glass opacity, including consolidation, and of consolidation alone.

    The fields may reach beyond the lung; the caller ignores the parts outside it.
    """
    ground_glass = np.full(space.shape, -50, np.float32)
    consolidation = np.full(space.shape, -50, np.float32)
    for number, centre in enumerate(_centres(space, lung, rng)):
        radii = rng.uniform((16, 12, 14), (30, 20, 26))
        reach = float(radii.max()) + 3 * ROUGHNESS_MM
        box, part = space.box(np.subtract(centre, reach), np.add(centre, reach))
        turn = float(rng.uniform(-50, 50))
        rough = ROUGHNESS_MM * smooth_noise(part, 7.0, rng)
        lesion = ellipsoid(part, centre, (radii[0], radii[1], radii[2]), turn) + rough
        np.maximum(ground_glass[box], lesion, out=ground_glass[box])
        if number < CONSOLIDATED:
            core = ellipsoid(part, centre, (radii[0] * 0.55, radii[1] * 0.5, radii[2] * 0.5), turn) + rough * 0.6
            np.maximum(consolidation[box], core, out=consolidation[box])
    return ground_glass, consolidation


def _centres(space: Space, lung: Field, rng: np.random.Generator) -> list[Point]:
    """Return lesion centres 6 to 14 mm deep in the lung, away from the mediastinum, at least 38 mm apart."""
    is_place = (lung > 6) & (lung < 14) & (np.abs(space.x) > 48) & (space.y > -35)
    places: NDArray[np.intp] = np.argwhere(is_place)
    places = places[rng.permutation(len(places))]
    backness = space.y.ravel()[places[:, 1]] / 60 - space.z.ravel()[places[:, 0]] / 150
    places = places[rng.random(len(places)) < 1 / (1 + np.exp(-2 * (backness + 0.7)))]
    chosen: list[Point] = []
    for z, y, x in places:
        point = (float(space.x.ravel()[x]), float(space.y.ravel()[y]), float(space.z.ravel()[z]))
        if all(np.linalg.norm(np.subtract(point, other)) > 38 for other in chosen):
            chosen.append(point)
        if len(chosen) == LESIONS:
            break
    return chosen
