from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.worker.reports.geometries import AXIAL_ORDERS, geometry_along
from tests.worker.reports.results import findings_of
from worker.geometry import Geometry
from worker.reports.view import look_at
from worker.volume import Volume

SHAPE = (20, 32, 48)
MARGIN = (3, 6, 9)
"""18 mm in voxels of 6, 3 and 2 mm."""


@pytest.mark.parametrize("order", AXIAL_ORDERS)
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_shows_what_was_found_and_a_margin_around_it(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    small = geometry_along(order, signs)
    volume = Volume(np.zeros(SHAPE, np.int16), Geometry(SHAPE, small.affine, "1.2.3"), ())
    labels, infection = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    labels[8:10, 10:14, 30], infection[11, 14, 30:33] = 2, True

    scene = look_at(volume, findings_of(volume, labels, infection))

    assert (int(scene.labels.sum()), int(scene.infection.sum())) == (int(labels.sum()), int(infection.sum()))
    shown = [4 + 2 * MARGIN[0], 5 + 2 * MARGIN[1], 3 + 2 * MARGIN[2]]
    assert scene.hu.shape == tuple(shown[order.index(axis)] for axis in (2, 1, 0))


@pytest.mark.parametrize("order", AXIAL_ORDERS)
@pytest.mark.parametrize(("sign", "level", "ends"), [(1, 8, ("F", "H")), (-1, 11, ("H", "F"))])
def test_a_slice_is_found_again_and_feet_are_told_from_head(
    order: tuple[int, ...], sign: int, level: int, ends: tuple[str, str]
) -> None:
    volume = Volume(np.zeros(SHAPE, np.int16), Geometry(SHAPE, geometry_along(order, (sign, 1, 1)).affine, "1.2.3"), ())
    labels = np.zeros(SHAPE, np.uint8)
    labels[8, 10, 30] = 1

    scene = look_at(volume, findings_of(volume, labels, np.zeros(SHAPE, bool)))

    assert (scene.level(8), scene.ends) == (level, ends)
    assert scene.labels[level - scene.origin[0]].any()
