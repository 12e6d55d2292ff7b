from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.factories import chest_hu, ct_series
from tests.worker.chests import chest_with_bulla, dice, volume_of
from worker.findings import LEFT, Lungs
from worker.geometry import Geometry
from worker.lungs import segment_lungs
from worker.volume import read_volume


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_left_and_right_are_the_patients_own_whatever_the_signs_of_the_cosines(signs: tuple[int, int, int]) -> None:
    hu, truth, _ = chest_hu()
    found = segment_lungs(volume_of(hu, signs)).labels[tuple(slice(None, None, sign) for sign in signs)]
    assert dice(found == 1, truth == 1) > 0.95
    assert dice(found == 2, truth == 2) > 0.95


@pytest.mark.parametrize("orientation", [(0, 1, 0, 1, 0, 0), (0, -1, 0, 1, 0, 0), (0, 1, 0, -1, 0, 0)])
def test_left_and_right_hold_when_rows_and_columns_are_exchanged(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    hu, truth, _ = chest_hu()
    upright = Geometry(hu.shape, np.array([[0, 0, 3, 0], [0, 3, 0, 0], [6, 0, 0, 0], [0, 0, 0, 1.0]]), "1")
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    stack = np.stack([np.cross(row, column), column, row])
    axes = [int(np.abs(direction).argmax()) for direction in stack]
    turned = hu.transpose([2 - axis for axis in axes])[
        tuple(slice(None, None, int(direction.sum())) for direction in stack)
    ]
    volume = read_volume(ct_series(tmp_path, turned, orientation=orientation))
    found = volume.geometry.anatomical(segment_lungs(volume).labels)
    assert dice(found == 1, upright.anatomical(truth) == 1) > 0.95


def test_vessels_and_enclosed_lesions_belong_to_the_lung() -> None:
    hu, truth, infection = chest_hu()
    hu[:, 52:54, 30:32] = np.where(truth[:, 52:54, 30:32] > 0, 40, hu[:, 52:54, 30:32])
    found = segment_lungs(volume_of(hu)).labels
    assert (found[infection] == 2).mean() > 0.99
    assert (found[10:30, 52:54, 30:32] == 2).all()


def test_lungs_that_touch_are_told_apart() -> None:
    hu, truth, _ = chest_hu()
    hu[16:24, 44:48, 58:70] = -850  # a bridge before the spine
    found = segment_lungs(volume_of(hu)).labels
    assert dice(found == 1, truth == 1) > 0.94
    assert dice(found == 2, truth == 2) > 0.94


def test_the_trachea_is_no_lung() -> None:
    hu, truth, _ = chest_hu()
    trachea = np.zeros(hu.shape, bool)
    trachea[22:, 38:44, 61:67] = True
    hu[trachea] = -1000
    found = segment_lungs(volume_of(hu)).labels
    assert not found[trachea].any()
    assert dice(found > 0, truth > 0) > 0.95


def test_gas_in_the_stomach_is_no_lung() -> None:
    hu, _, _ = chest_hu()
    gas = np.zeros(hu.shape, bool)
    gas[2:6, 30:48, 70:90] = True
    hu[gas] = -1000
    assert segment_lungs(volume_of(hu)).labels[gas].mean() < 0.05


@pytest.mark.parametrize(
    ("rows", "depth", "ml"), [(slice(42, 55), 8, 34), (slice(32, 64), 11, 110), (slice(25, 70), 14, 155)]
)
def test_emphysema_low_in_the_scan_is_lung(rows: slice, depth: int, ml: float) -> None:
    hu, bulla = chest_with_bulla(rows, depth)
    assert bulla.sum() * 0.054 == pytest.approx(ml, rel=0.05)
    assert (segment_lungs(volume_of(hu)).labels[bulla] == LEFT).mean() > 0.95


def test_air_around_the_patient_and_below_the_table_is_no_lung() -> None:
    hu, truth, _ = chest_hu()
    hu[:, 93:95, :] = 100  # a table
    found = segment_lungs(volume_of(hu)).labels
    assert not found[:, 88:].any()
    assert dice(found > 0, truth > 0) > 0.95


@pytest.mark.parametrize("value", [-1024, 40])
def test_nothing_is_found_where_there_is_no_chest(value: int) -> None:
    lungs: Lungs = segment_lungs(volume_of(np.full((20, 64, 64), value, np.int16)))
    assert not lungs.labels.any()


def test_nothing_is_found_in_a_body_too_thin_to_have_a_lower_third() -> None:
    hu = np.full((20, 64, 64), -1000, np.int16)
    hu[10:12, 10:54, 10:54] = 20
    assert not segment_lungs(volume_of(hu)).labels.any()


def test_a_single_lung_lies_on_its_own_side() -> None:
    hu, truth, _ = chest_hu()
    hu[truth == 2] = 30
    found = segment_lungs(volume_of(hu)).labels
    assert dice(found == 1, truth == 1) > 0.95
    assert not (found == 2).any()
