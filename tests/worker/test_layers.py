from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.worker.chests import volume_of
from worker.candidates import Candidates, filter_candidates
from worker.findings import Mask
from worker.layers import by_size_and_place

SIGNS = list(product((1, -1), repeat=3))


def kept(region: tuple[slice, slice, slice], signs: tuple[int, int, int] = (1, 1, 1), z_mm: float = 2.0) -> bool:
    """Return whether a region is kept, in lung above a diaphragm: its dome fills slices 0 to 9 of rows 20 to 29."""
    hu = np.full((30, 40, 50), -850, np.int16)
    hu[:10, 20:30, 20:30] = 40
    hu[region] = -500
    mask = np.zeros(hu.shape, np.bool_)
    mask[region] = True
    volume = volume_of(hu, signs)
    volume.geometry.affine[2, 0] = signs[0] * z_mm
    flipped = np.ascontiguousarray(mask[tuple(slice(None, None, sign) for sign in signs)])
    _, (only,) = filter_candidates(volume, Candidates(Mask(flipped, volume.geometry)), by_size_and_place)
    return only.kept


@pytest.mark.parametrize("signs", SIGNS)
def test_a_thin_layer_on_the_dome_is_removed_however_the_axes_run(signs: tuple[int, int, int]) -> None:
    assert not kept((slice(10, 13), slice(21, 29), slice(21, 29)), signs)


@pytest.mark.parametrize("signs", SIGNS)
def test_a_lesion_that_rises_from_the_diaphragm_is_kept(signs: tuple[int, int, int]) -> None:
    assert kept((slice(10, 16), slice(21, 29), slice(21, 29)), signs)


@pytest.mark.parametrize("signs", SIGNS)
def test_a_thin_lesion_in_the_lung_is_kept_though_tissue_lies_above_or_beside_it(signs: tuple[int, int, int]) -> None:
    assert kept((slice(15, 18), slice(21, 29), slice(21, 29)), signs)
    assert kept((slice(4, 7), slice(21, 29), slice(12, 20)), signs)


def test_other_regions_within_its_box_do_not_speak_for_a_layer() -> None:
    hu = np.full((30, 60, 60), -850, np.int16)
    hu[:10, 20:50, 20:50] = 40
    mask = np.zeros(hu.shape, np.bool_)
    mask[10:20, 20, 20:50] = mask[10:20, 20:50, 20] = True  # walls around the layer on the dome
    mask[10, 24:48, 24:48] = True
    volume = volume_of(hu)
    _, regions = filter_candidates(volume, Candidates(Mask(mask, volume.geometry)), by_size_and_place)
    assert [(region.first[1], region.kept) for region in regions] == [(20, True), (24, False)]


@pytest.mark.parametrize("signs", SIGNS)
def test_what_lies_in_one_slice_under_tissue_is_removed_however_the_axes_run(signs: tuple[int, int, int]) -> None:
    slope = np.full((30, 40, 50), -850, np.int16)
    slope[21:, 20:30, 20:30] = 40
    slice_, layer = np.zeros(slope.shape, np.bool_), np.zeros(slope.shape, np.bool_)
    slice_[20, 21:29, 21:29] = True
    layer[19:21, 21:29, 21:29] = True
    volume = volume_of(slope, signs)
    for mask, kept in ((slice_, False), (layer, True)):
        flipped = np.ascontiguousarray(mask[tuple(slice(None, None, sign) for sign in signs)])
        _, (only,) = filter_candidates(volume, Candidates(Mask(flipped, volume.geometry)), by_size_and_place)
        assert only.kept == kept


def test_under_the_last_slice_nothing_is_known_of_what_lies_above() -> None:
    assert kept((slice(29, 30), slice(2, 14), slice(2, 14)), z_mm=10.0)


def test_of_thick_slices_one_alone_is_a_thin_layer() -> None:
    assert not kept((slice(10, 11), slice(21, 29), slice(21, 29)), z_mm=10.0)
    assert kept((slice(10, 12), slice(21, 29), slice(21, 29)), z_mm=10.0)


def test_at_the_first_slice_nothing_is_known_of_what_lies_below() -> None:
    assert kept((slice(0, 3), slice(2, 10), slice(2, 10)))


def test_the_reason_is_given() -> None:
    volume = volume_of(np.full((30, 40, 50), 40, np.int16))
    mask = np.zeros(volume.hu.shape, np.bool_)
    mask[10, 10:20, 10:20] = True
    _, (region,) = filter_candidates(volume, Candidates(Mask(mask, volume.geometry)), by_size_and_place)
    assert "diaphragm" in region.reason


@pytest.mark.parametrize(("z_mm", "lowest"), [(2.0, "8 mm"), (8.0, "12 mm")])
def test_the_reason_says_how_high_tissue_blurs_into_slices_so_far_apart(z_mm: float, lowest: str) -> None:
    hu = np.full((30, 40, 50), -850, np.int16)
    hu[:10, 20:30, 20:30] = 40
    mask = np.zeros(hu.shape, np.bool_)
    mask[10, 21:29, 21:29] = True
    volume = volume_of(hu)
    volume.geometry.affine[2, 0] = z_mm
    _, (region,) = filter_candidates(volume, Candidates(Mask(mask, volume.geometry)), by_size_and_place)
    assert region.reason == f"no higher than {lowest} on tissue (diaphragm, mediastinum or vessel), blurred"
