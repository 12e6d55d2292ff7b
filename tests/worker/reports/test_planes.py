from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.worker.reports.geometries import AXIAL_ORDERS, SHAPE, SPACING_MM, geometry_along
from worker.reports.planes import AXIAL, CORONAL, Plane


@pytest.mark.parametrize("order", AXIAL_ORDERS)
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize(
    ("plane", "sign"),
    [
        (AXIAL, {"x": -1, "y": -1}),  # right front
        (CORONAL, {"x": -1, "z": 1}),  # right top
    ],
)
def test_the_upper_left_corner_is_where_the_letters_say(
    order: tuple[int, ...], signs: tuple[int, ...], plane: Plane, sign: dict[str, int]
) -> None:
    volume = geometry_along(order, signs)
    indices = np.indices(SHAPE).reshape(3, -1).T
    for name, direction in sign.items():
        position = volume.to_patient(indices)[:, "xyz".index(name)].reshape(SHAPE)
        image = plane.cut(volume.anatomical(position), 1)
        assert image[0, 0] == (image.max() if direction > 0 else image.min())


def test_pixels_keep_their_size() -> None:
    assert AXIAL.pixel_mm(SPACING_MM) == (3.0, 2.0)
    assert CORONAL.pixel_mm(SPACING_MM) == (6.0, 2.0)
