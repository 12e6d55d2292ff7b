from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import Defect
from tests.worker.chests import volume_of
from worker.findings import Lungs, Mask
from worker.gates import flags_of, require_lungs
from worker.geometry import Geometry
from worker.measure import hu_bands, measure, slice_areas

SHAPE = (4, 10, 10)
VOXEL_ML = 0.054


@given(left=st.integers(1, 80), right=st.integers(1, 80), sick_left=st.integers(0, 80), sick_right=st.integers(0, 80))
def test_proportion_is_infected_volume_over_lung_volume(left: int, right: int, sick_left: int, sick_right: int) -> None:
    sick_left, sick_right = min(sick_left, left), min(sick_right, right)
    labels, sick = np.zeros(400, np.uint8), np.zeros(400, bool)
    labels[:left], labels[200 : 200 + right] = 1, 2
    sick[:sick_left], sick[200 : 200 + sick_right] = True, True
    volume = volume_of(np.full(SHAPE, -800, np.int16))
    lungs, infection = Lungs(labels.reshape(SHAPE), volume.geometry), Mask(sick.reshape(SHAPE), volume.geometry)
    both, in_left, in_right = measure(volume, lungs, infection)
    assert in_left.infected_percent == pytest.approx(100 * sick_left / left)
    assert in_right.infected_percent == pytest.approx(100 * sick_right / right)
    assert both.infected_percent == pytest.approx(100 * (sick_left + sick_right) / (left + right))
    assert both.lung_volume_ml == pytest.approx((left + right) * VOXEL_ML)
    assert both.infection_volume_ml == pytest.approx((sick_left + sick_right) * VOXEL_ML)


def test_means_are_taken_over_their_own_voxels() -> None:
    hu = np.full(SHAPE, -900, np.int16)
    hu[1], hu[2] = -500, 100
    labels, sick = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    labels[0], labels[1], sick[1] = 1, 2, True
    volume = volume_of(hu)
    both, left, right = measure(volume, Lungs(labels, volume.geometry), Mask(sick, volume.geometry))
    assert (both.lung_mean_hu, both.infection_mean_hu) == (-700, -500)
    assert (left.lung_mean_hu, left.infection_mean_hu) == (-900, None)
    assert (right.lung_mean_hu, right.infection_mean_hu) == (-500, -500)


def test_infection_outside_the_lungs_does_not_count() -> None:
    volume = volume_of(np.full(SHAPE, -800, np.int16))
    labels = np.zeros(SHAPE, np.uint8)
    labels[0] = 1
    everywhere = Mask(np.ones(SHAPE, bool), volume.geometry)
    both, _, _ = measure(volume, Lungs(labels, volume.geometry), everywhere)
    assert both.infected_percent == 100
    assert slice_areas(Lungs(labels, volume.geometry), everywhere).infection_mm2.tolist() == [900, 0, 0, 0]


def test_a_lung_of_no_volume_has_no_proportion() -> None:
    volume = volume_of(np.full(SHAPE, -800, np.int16))
    none = np.zeros(SHAPE, np.uint8)
    for m in measure(volume, Lungs(none, volume.geometry), Mask(none.astype(bool), volume.geometry)):
        assert (m.infected_percent, m.lung_mean_hu, m.infection_mean_hu) == (None, None, None)
        assert m.lung_volume_ml == 0


def test_areas_are_given_slice_by_slice() -> None:
    volume = volume_of(np.full(SHAPE, -800, np.int16))
    labels, sick = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    labels[1, :2], labels[2, :4], sick[2, 0] = 1, 2, True
    areas = slice_areas(Lungs(labels, volume.geometry), Mask(sick, volume.geometry))
    assert areas.lung_mm2.tolist() == [0, 20 * 9, 40 * 9, 0]
    assert areas.infection_mm2.tolist() == [0, 0, 10 * 9, 0]


def test_masks_on_other_voxels_are_a_defect() -> None:
    volume = volume_of(np.full(SHAPE, -800, np.int16))
    elsewhere = Geometry(SHAPE, volume.geometry.affine * 2, volume.geometry.frame_of_reference_uid)
    for of_lungs, of_infection in ((elsewhere, volume.geometry), (volume.geometry, elsewhere)):
        with pytest.raises(Defect):
            measure(volume, Lungs(np.zeros(SHAPE, np.uint8), of_lungs), Mask(np.zeros(SHAPE, bool), of_infection))


@given(st.integers(0, 2**32 - 1))
def test_hu_bands_part_each_lung_without_rest(seed: int) -> None:
    random = np.random.default_rng(seed)
    volume = volume_of(random.integers(-2000, 500, SHAPE).astype(np.int16))
    lungs = Lungs(random.integers(0, 3, SHAPE).astype(np.uint8), volume.geometry)

    bands = hu_bands(volume, lungs)

    assert sum(band.left_ml for band in bands) == pytest.approx(lungs.side("left").volume_ml)
    assert sum(band.right_ml for band in bands) == pytest.approx(lungs.side("right").volume_ml)


@pytest.mark.parametrize(
    ("hu", "index"), [(-1024, 0), (-951, 0), (-950, 1), (-751, 1), (-750, 2), (-400, 3), (-1, 3), (0, 4), (300, 4)]
)
def test_a_voxel_lies_in_the_band_that_begins_at_or_below_it(hu: int, index: int) -> None:
    volume = volume_of(np.full(SHAPE, hu, np.int16))

    bands = hu_bands(volume, Lungs(np.full(SHAPE, 2, np.uint8), volume.geometry))

    assert [n for n, band in enumerate(bands) if band.both_ml] == [index]
    assert bands[index].left_ml == 0


def test_figures_and_doubts_are_counted_without_a_second_volume() -> None:
    labels = np.zeros((200, 40, 40), np.uint8)
    labels[2:-2, :, :18], labels[2:-2, :, 20:] = 1, 2
    volume = volume_of(np.full(labels.shape, -800, np.int16))
    lungs, infection = Lungs(labels, volume.geometry), Mask(labels == 1, volume.geometry)
    tracemalloc.start()
    require_lungs(volume, lungs)
    flags_of(volume, lungs, measure(volume, lungs, infection))
    slice_areas(lungs, infection)
    hu_bands(volume, lungs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.nbytes / 2
