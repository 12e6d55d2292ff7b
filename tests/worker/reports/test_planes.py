from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.geometry import Geometry
from worker.reports.planes import AXIAL, CORONAL, SAGITTAL, Plane, patient_axes

SHAPE = (3, 4, 5)
SPACING_MM = (6.0, 3.0, 2.0)


def geometry(order: tuple[int, ...], signs: tuple[int, ...], *, tilt: float = 0.0) -> Geometry:
    """Return a volume whose array axis i runs along the patient's axis order[i], that way or the other."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (along, sign) in enumerate(zip(order, signs, strict=True)):
        affine[along, axis] = sign * SPACING_MM[axis]
    affine[order[1], 0] += tilt * SPACING_MM[0]
    return Geometry(SHAPE, affine, "1.2.3")


@pytest.mark.parametrize("order", list(permutations((0, 1, 2))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("tilt", [0.0, 0.25])
def test_arranged_axes_run_left_back_and_up(order: tuple[int, ...], signs: tuple[int, ...], *, tilt: float) -> None:
    volume = geometry(order, signs, tilt=tilt)
    axes = patient_axes(volume)
    indices = np.indices(SHAPE).reshape(3, -1).T
    for patient_axis in range(3):
        position = volume.to_patient(indices)[:, patient_axis].reshape(SHAPE)

        along = np.moveaxis(axes.arrange(position), patient_axis, 0)

        assert (np.diff(along, axis=0) > 0).all()


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from((1, -1))] * 3))
def test_what_is_said_of_each_axis_turns_as_the_array_does(order: list[int], signs: tuple[int, ...]) -> None:
    axes = patient_axes(geometry(tuple(order), signs))
    indices = np.indices(SHAPE)

    along = axes.arrange_along([np.arange(count) for count in SHAPE])

    for patient_axis, axis in enumerate(axes.order):
        turned = np.moveaxis(axes.arrange(indices[axis]), patient_axis, 0)
        np.testing.assert_array_equal(turned[:, 0, 0], along[patient_axis])


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from((1, -1))] * 3), st.integers(0, SHAPE[0] - 1))
def test_a_slice_of_the_volume_is_found_again(order: list[int], signs: tuple[int, ...], index: int) -> None:
    axes = patient_axes(geometry(tuple(order), signs))
    marked = np.zeros(SHAPE, bool)
    marked[index] = True

    plane = axes.slice_plane
    image = axes.cut(axes.arrange(marked), plane, axes.index(index, SHAPE[0]))

    assert image.all()


@pytest.mark.parametrize(
    ("plane", "corner", "sign"),
    [
        (AXIAL, (0, 0), {"x": -1, "y": -1}),  # right front
        (CORONAL, (0, 0), {"x": -1, "z": 1}),  # right top
        (SAGITTAL, (0, 0), {"y": -1, "z": 1}),  # front top
    ],
)
def test_the_upper_left_corner_is_where_the_letters_say(
    plane: Plane, corner: tuple[int, int], sign: dict[str, int]
) -> None:
    volume = geometry((2, 1, 0), (1, 1, 1))
    axes = patient_axes(volume)
    indices = np.indices(SHAPE).reshape(3, -1).T
    for name, direction in sign.items():
        position = volume.to_patient(indices)[:, "xyz".index(name)].reshape(SHAPE)
        image = axes.cut(axes.arrange(position), plane, 1)
        assert image[corner] == (image.max() if direction > 0 else image.min())


def test_pixels_keep_their_size() -> None:
    axes = patient_axes(geometry((2, 1, 0), (1, 1, 1)))

    assert axes.pixel_mm(AXIAL) == (3.0, 2.0)
    assert axes.pixel_mm(CORONAL) == (6.0, 2.0)
    assert axes.pixel_mm(SAGITTAL) == (6.0, 3.0)


@pytest.mark.parametrize(("sign", "ends"), [(1, ("F", "H")), (-1, ("H", "F"))])
def test_ends_tell_feet_from_head(sign: int, ends: tuple[str, str]) -> None:
    assert patient_axes(geometry((2, 1, 0), (sign, 1, 1))).ends == ends
