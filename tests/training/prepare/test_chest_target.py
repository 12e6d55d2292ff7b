from dataclasses import replace

import numpy as np
import pytest

from tests.factories import chest_hu
from training.datasets.sample import (
    CONSOLIDATION,
    GROUND_GLASS_OPACITY,
    INFECTION,
    LUNG,
    PLEURAL_EFFUSION,
    UNIONS,
    Sample,
)
from training.prepare.chest_target import ChestTarget
from training.prepare.target import UNKNOWN, TargetClass

TARGET = ChestTarget(tuple(TargetClass(name, (name,)) for name in (LUNG, INFECTION, PLEURAL_EFFUSION)))
HU, LUNGS, INFECTED = chest_hu()


def sample(masks: dict[str, np.ndarray], infected: np.ndarray | None = None) -> Sample:
    return Sample(
        name="a",
        source="test",
        patient="p",
        scan="a",
        position=0,
        image=HU,
        intensity="hu",
        masks=masks,
        spacing_mm=(6, 3, 3),
        infected=infected,
    )


def test_everything_annotated_leaves_nothing_unknown() -> None:
    labels = TARGET.label_map(sample({LUNG: LUNGS > 0, INFECTION: INFECTED}))
    assert np.array_equal(labels == 2, INFECTED)
    assert np.array_equal(labels == 1, (LUNGS > 0) & ~INFECTED)


def test_what_is_dense_in_a_lung_without_an_infection_mask_is_unknown() -> None:
    labels = TARGET.label_map(sample({LUNG: LUNGS > 0}))
    assert (labels[INFECTED] == UNKNOWN).mean() > 0.9
    aerated = labels[(LUNGS > 0) & (HU < -800)]
    assert set(np.unique(aerated)) == {1, UNKNOWN}  # aerated lung at its edge is unknown too, by the smoothing
    assert (aerated == 1).mean() > 0.6
    assert (labels[LUNGS == 0] == 0).all()


@pytest.mark.parametrize("part", UNIONS[INFECTION])
@pytest.mark.parametrize("around", [{LUNG: LUNGS > 0}, {}])
def test_a_part_of_infection_drawn_alone_is_infection_and_the_rest_doubtful(
    part: str, around: dict[str, np.ndarray]
) -> None:
    drawn = INFECTED.copy()
    drawn[:20] = False
    labels = TARGET.label_map(sample({**around, part: drawn}))
    assert np.array_equal(labels == 2, drawn)
    assert (labels[INFECTED & ~drawn] == UNKNOWN).mean() > 0.9


def test_a_part_of_infection_stands_in_slices_called_free_of_it() -> None:
    labels = TARGET.label_map(sample({LUNG: LUNGS > 0, CONSOLIDATION: INFECTED}, np.zeros(len(HU), np.bool_)))
    assert np.array_equal(labels == 2, INFECTED)


def test_infection_drawn_in_all_its_parts_leaves_nothing_unknown() -> None:
    none = np.zeros(HU.shape, np.bool_)
    labels = TARGET.label_map(sample({LUNG: LUNGS > 0, CONSOLIDATION: INFECTED, GROUND_GLASS_OPACITY: none}))
    assert np.array_equal(labels == 2, INFECTED)
    assert not (labels == UNKNOWN).any()


def test_faint_ground_glass_that_nobody_drew_is_unknown() -> None:
    faint = HU.copy()
    faint[20, 40:60, 20:40] = np.where(LUNGS[20, 40:60, 20:40] > 0, -780, faint[20, 40:60, 20:40])
    aerated = np.zeros(HU.shape, np.bool_)
    aerated[20, 45:55, 25:35] = LUNGS[20, 45:55, 25:35] > 0
    assert aerated.any()
    labels = TARGET.label_map(replace(sample({LUNG: LUNGS > 0}), image=faint))
    assert (labels[aerated] == UNKNOWN).all()


def test_slices_called_free_of_infection_have_none_anywhere() -> None:
    infected = INFECTED.any(axis=(1, 2))
    infected[: len(infected) // 2] = False
    labels = TARGET.label_map(sample({}, infected))
    assert not np.isin(labels[~infected], (2, UNKNOWN)).any()
    assert (labels[infected] == UNKNOWN).any()


def test_in_slices_called_infected_what_thresholds_find_is_infection() -> None:
    labels = TARGET.label_map(sample({}, INFECTED.any(axis=(1, 2))))
    assert (labels[INFECTED] == 2).mean() > 0.7
    assert not (labels[LUNGS == 0] == 2).any()


def test_without_a_verdict_nothing_is_called_infection() -> None:
    assert not (TARGET.label_map(sample({})) == 2).any()


def test_a_scan_without_a_lung_mask_gets_the_lungs_of_the_thresholds() -> None:
    labels = TARGET.label_map(sample({INFECTION: INFECTED}))
    assert ((labels > 0) == (LUNGS > 0)).mean() > 0.98


def test_beside_lungs_by_threshold_dense_tissue_may_be_consolidation() -> None:
    labels = TARGET.label_map(sample({}))
    assert (labels[(LUNGS == 0) & (HU > 0)] == UNKNOWN).any()
    assert (labels[0] == 0).all()


def test_effusion_is_a_class_of_its_own() -> None:
    effusion = np.zeros(HU.shape, np.bool_)
    effusion[20, 80:85, 60:70] = True
    labels = TARGET.label_map(sample({LUNG: LUNGS > 0, INFECTION: INFECTED, PLEURAL_EFFUSION: effusion}))
    assert np.array_equal(labels == 3, effusion)
