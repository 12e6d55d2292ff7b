from __future__ import annotations

import numpy as np

from tests.factories import chest_hu
from tests.worker.chests import dice, volume_of
from worker.findings import Lungs
from worker.infection import segment_infection


def test_a_lesion_is_found_whole() -> None:
    hu, truth, infection = chest_hu()
    volume = volume_of(hu)
    found = segment_infection(volume, Lungs(truth, volume.geometry))
    assert dice(found.array, infection) > 0.9


def test_a_healthy_lung_has_none() -> None:
    hu, truth, _ = chest_hu(infected=False)
    volume = volume_of(hu)
    assert not segment_infection(volume, Lungs(truth, volume.geometry)).array.any()


def test_a_thin_vessel_is_no_infection() -> None:
    hu, truth, _ = chest_hu(infected=False)
    vessel = np.zeros(hu.shape, bool)
    vessel[10:30, 47:49, 32:34] = True
    hu[vessel] = 40
    volume = volume_of(hu)
    assert not segment_infection(volume, Lungs(truth, volume.geometry)).array.any()


def test_consolidation_within_ground_glass_counts() -> None:
    hu, truth, infection = chest_hu()
    core = np.zeros(hu.shape, bool)
    core[18:22, 54:59, 35:39] = True
    hu[core & infection] = 30
    volume = volume_of(hu)
    found = segment_infection(volume, Lungs(truth, volume.geometry))
    assert found.array[core & infection].all()


def test_infection_lies_within_the_lungs() -> None:
    hu, truth, _ = chest_hu()
    volume = volume_of(hu)
    found = segment_infection(volume, Lungs(truth, volume.geometry))
    assert not found.array[truth == 0].any()


def test_without_lungs_there_is_no_infection() -> None:
    hu, truth, _ = chest_hu()
    volume = volume_of(hu)
    assert not segment_infection(volume, Lungs(np.zeros_like(truth), volume.geometry)).array.any()
