from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from dicom_node.errors import Defect
from worker.geometry import Geometry

EVERY_ORIENTATION = [(axes, signs) for axes in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)]


def geometry(axes: tuple[int, ...], signs: tuple[float, ...], shape: tuple[int, int, int] = (4, 5, 6)) -> Geometry:
    """Return a geometry whose array axis i runs along patient axis axes[i] (0 is x), backwards if signs[i] is -1.

    Voxels have 2, 3 and 4 mm along the axes of the array.
    """
    affine = np.eye(4)
    affine[:3, :3] = 0
    for array_axis, (patient_axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[patient_axis, array_axis] = sign * (2 + array_axis)
    return Geometry(shape, affine, "1.2.3")


@pytest.mark.parametrize(("axes", "signs"), EVERY_ORIENTATION)
def test_anatomical_view_runs_feet_to_head_front_to_back_right_to_left(
    axes: tuple[int, ...], signs: tuple[float, ...]
) -> None:
    g = geometry(axes, signs)
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in g.shape), indexing="ij"), axis=-1)
    patient = g.to_patient(indices.reshape(-1, 3)).reshape(*g.shape, 3)
    for view_axis, patient_axis in enumerate((2, 1, 0)):
        coordinate = g.anatomical(patient[..., patient_axis])
        assert (np.diff(coordinate, axis=view_axis) > 0).all()


@pytest.mark.parametrize(("axes", "signs"), EVERY_ORIENTATION)
def test_a_box_of_the_array_holds_the_same_voxels_in_the_anatomical_view(
    axes: tuple[int, ...], signs: tuple[float, ...]
) -> None:
    g = geometry(axes, signs)
    array = np.arange(np.prod(g.shape)).reshape(g.shape)
    box = (slice(1, 2), slice(0, 3), slice(3, 6))
    assert np.array_equal(
        np.sort(g.anatomical(array)[g.anatomical_box(box)], axis=None), np.sort(array[box], axis=None)
    )


def test_writing_to_the_anatomical_view_writes_to_the_array() -> None:
    g = geometry((1, 2, 0), (-1, 1, -1))
    array = np.zeros(g.shape, np.uint8)
    g.anatomical(array)[-1, 0, 0] = 7  # head, front, right
    (place,) = np.argwhere(array == 7)
    corner = g.to_patient(place[None])[0]
    everywhere = g.to_patient(np.argwhere(array >= 0))
    assert corner[2] == everywhere[:, 2].max()
    assert corner[1] == everywhere[:, 1].min()
    assert corner[0] == everywhere[:, 0].min()


def test_anatomical_spacing_follows_the_axes() -> None:
    g = geometry((0, 2, 1), (1, 1, -1))  # slices along x, rows along z, columns along y
    assert g.anatomical_spacing_mm == (3, 4, 2)


def test_voxel_volume_of_a_tilted_stack_is_area_times_distance_between_slices() -> None:
    affine = geometry((2, 1, 0), (1, 1, 1)).affine.copy()
    affine[1, 0] = 1.5  # each slice lies 1.5 mm further back
    assert Geometry((4, 5, 6), affine, "1").voxel_volume_ml == pytest.approx(2 * 3 * 4 / 1000)


@pytest.mark.parametrize(("axes", "is_axial"), [((2, 1, 0), True), ((1, 2, 0), False), ((0, 2, 1), False)])
def test_axial_slices_follow_one_another_along_the_body(axes: tuple[int, ...], is_axial: bool) -> None:
    assert geometry(axes, (1, -1, 1)).is_axial == is_axial


def test_other_voxels_are_a_defect() -> None:
    g = geometry((2, 1, 0), (1, 1, 1))
    moved = Geometry(
        g.shape, g.affine + np.eye(4)[:, [3]] * 0 + np.array([[0, 0, 0, 0.5]] * 4), g.frame_of_reference_uid
    )
    with pytest.raises(Defect, match="expected voxels"):
        g.require_same(moved)


def test_voxels_in_another_frame_of_reference_are_others() -> None:
    g = geometry((2, 1, 0), (1, 1, 1))
    assert g.is_same_as(replace(g))
    assert not g.is_same_as(replace(g, frame_of_reference_uid="1.2.4"))
