from __future__ import annotations

import numpy as np
import pytest

from tests.worker.chests import volume_of
from worker.candidates import Candidate, Candidates, Verdict, by_size, filter_candidates
from worker.findings import Mask
from worker.volume import Volume


@pytest.fixture
def volume() -> Volume:
    return volume_of(np.full((10, 20, 30), -500, np.int16))  # 0.054 mL a voxel


def test_regions_tell_their_volume_mean_and_box(volume: Volume) -> None:
    mask = np.zeros(volume.hu.shape, bool)
    mask[2:4, 5:8, 10:20] = True
    volume.hu[2, 5, 10] = -200
    _, (region,) = filter_candidates(volume, Candidates(Mask(mask, volume.geometry)), by_size)
    assert region.volume_ml == pytest.approx(60 * 0.054)
    assert region.mean_hu == pytest.approx(-500 + 300 / 60)
    assert (region.first, region.last) == ((2, 5, 10), (3, 7, 19))
    assert region.kept
    assert region.probability is None


def test_regions_tell_how_probable_they_are_in_the_mean(volume: Volume) -> None:
    percent = np.zeros(volume.hu.shape, np.uint8)
    percent[2, 1:5, 1:6] = 90
    percent[2, 1, 1:6] = 50
    percent[7, 1:4, 1:6] = 60
    percent[7, 1, 1] = 61  # is in the other region's box, but not one of its voxels
    _, regions = filter_candidates(volume, Candidates(Mask(percent > 0, volume.geometry), (), percent), by_size)
    assert [region.probability for region in regions] == pytest.approx([0.8, (14 * 0.60 + 0.61) / 15])


def test_small_regions_are_removed_and_say_why(volume: Volume) -> None:
    mask = np.zeros(volume.hu.shape, bool)
    mask[1, 1:3, 1:6] = True  # 0.54 mL
    mask[5, 5, 5:14] = True  # 0.486 mL
    kept, regions = filter_candidates(volume, Candidates(Mask(mask, volume.geometry)), by_size)
    assert [region.kept for region in regions] == [True, False]
    assert regions[1].reason == "smaller than 0.5 mL"
    assert kept.array[1].sum() == 10
    assert not kept.array[5].any()


def test_a_judge_decides_and_its_reason_is_kept(volume: Volume) -> None:
    def judge(_volume: Volume, _mask: Mask, candidate: Candidate) -> Verdict:
        return Verdict(candidate.first[0] > 3, "asked")

    mask = np.zeros(volume.hu.shape, bool)
    mask[1, 1:5, 1:6] = mask[6, 1:4, 1:6] = True
    kept, regions = filter_candidates(volume, Candidates(Mask(mask, volume.geometry)), judge)
    assert [(region.kept, region.reason) for region in regions] == [(False, "asked"), (True, "asked")]
    assert np.unique(np.nonzero(kept.array)[0]).tolist() == [6]


def test_an_empty_mask_has_no_regions(volume: Volume) -> None:
    kept, regions = filter_candidates(
        volume, Candidates(Mask(np.zeros(volume.hu.shape, bool), volume.geometry)), by_size
    )
    assert regions == ()
    assert not kept.array.any()
