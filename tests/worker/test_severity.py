from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.figures import format_percent
from tests.worker.chests import volume_of
from worker.findings import LEFT, RIGHT, Lungs, Mask, Severity
from worker.severity import WHOLE_LUNG_PERCENT, ZONE_PERCENT, score, severity

SHAPE = (9, 10, 20)
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[:, :, :10], LABELS[:, :, 10:] = RIGHT, LEFT


def severity_of(infected: np.ndarray, labels: np.ndarray = LABELS, signs: tuple[int, int, int] = (1, 1, 1)) -> Severity:
    geometry = volume_of(np.full(infected.shape, -800, np.int16), signs).geometry
    found = severity(Lungs(labels, geometry), Mask(infected, geometry))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("percent", "whole", "zone"),
    [(0, 0, 0), (0.01, 1, 1), (4.94, 1, 1), (5, 2, 1), (24.9, 2, 1), (25, 3, 2), (50, 4, 3), (75, 5, 4), (100, 5, 4)],
)
def test_each_step_begins_at_its_share(percent: float, whole: int, zone: int) -> None:
    assert (score(percent, WHOLE_LUNG_PERCENT), score(percent, ZONE_PERCENT)) == (whole, zone)


@pytest.mark.parametrize("percent", [4.996, 4.96])
def test_what_is_told_as_5_percent_scores_as_5_percent(percent: float) -> None:
    assert format_percent(percent) == "5.0 %"
    assert score(percent, WHOLE_LUNG_PERCENT) == 2


def test_healthy_lungs_score_nothing() -> None:
    found = severity_of(np.zeros(SHAPE, bool))

    assert (found.whole_lung_score, found.six_zone_score) == (0, 0)


def test_lungs_infected_throughout_score_the_most() -> None:
    found = severity_of(np.ones(SHAPE, bool))

    assert (found.whole_lung_score, found.six_zone_score) == (5, 24)


@pytest.mark.parametrize(("first", "level"), [(0, "lower"), (3, "middle"), (6, "upper")])
@pytest.mark.parametrize(("column", "side"), [(0, "right"), (10, "left")])
def test_infection_counts_in_the_zone_where_it_lies(first: int, level: str, column: int, side: str) -> None:
    infected = np.zeros(SHAPE, bool)
    infected[first : first + 3, :, column : column + 10] = True

    zones = severity_of(infected).zones

    assert {(z.side, z.level): (z.infected_percent, z.score) for z in zones if z.score} == {(side, level): (100, 4)}


@pytest.mark.parametrize(("sign", "level"), [(1, "lower"), (-1, "upper")])
def test_a_zone_lies_where_it_does_in_the_patient_though_slices_run_from_head_to_feet(sign: int, level: str) -> None:
    infected = np.zeros(SHAPE, bool)
    infected[:3] = True

    zones = severity_of(infected, signs=(sign, 1, 1)).zones

    assert [(z.side, z.level) for z in zones if z.score] == [("right", level), ("left", level)]


@pytest.mark.parametrize(("slice_", "level"), [(2, "lower"), (3, "middle"), (6, "middle"), (7, "upper")])
def test_a_slice_that_two_zones_share_is_of_the_one_that_holds_its_middle(slice_: int, level: str) -> None:
    infected = np.zeros((10, *SHAPE[1:]), bool)
    infected[slice_, :, :10] = True

    zones = severity_of(infected, np.repeat(LABELS[:1], 10, axis=0)).zones

    assert [z.level for z in zones if z.score] == [level]


@pytest.mark.parametrize(("first", "level"), [(20, "lower"), (23, "middle"), (26, "upper")])
def test_thirds_are_of_the_lungs_height_not_of_the_scans(first: int, level: str) -> None:
    labels = np.zeros((30, 10, 20), np.uint8)
    labels[20:29] = LABELS
    infected = np.zeros(labels.shape, bool)
    infected[first : first + 3, :, :10] = True

    zones = severity_of(infected, labels).zones

    assert [(z.side, z.level) for z in zones if z.score] == [("right", level)]


@pytest.mark.parametrize("left_over", [slice(0, 0), slice(0, 1)], ids=["none", "a bit"])
def test_a_zone_without_aerated_lung_has_no_score_and_there_is_no_sum(left_over: slice) -> None:
    labels = LABELS.copy()
    labels[:3, :, 10:] = 0
    labels[2, left_over, 10:] = LEFT

    found = severity_of(np.zeros(SHAPE, bool), labels)

    told = {(z.side, z.level): (z.infected_percent, z.score) for z in found.zones}
    assert told.pop(("left", "lower")) == (None, None)
    assert set(told.values()) == {(0, 0)}
    assert found.six_zone_score is None


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_zones_together_hold_all_infection_of_the_lungs(seed: int, share: float) -> None:
    infected = np.random.default_rng(seed).random(SHAPE) < share

    found = severity_of(infected)

    assert np.mean([z.infected_percent for z in found.zones]) == pytest.approx(100 * infected.mean())


def test_no_lung_has_no_score() -> None:
    geometry = volume_of(np.full(SHAPE, -800, np.int16)).geometry

    assert severity(Lungs(np.zeros(SHAPE, np.uint8), geometry), Mask(np.zeros(SHAPE, bool), geometry)) is None
