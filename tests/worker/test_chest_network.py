from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import PassingFailure
from tests.factories import chest_hu, ct_series
from tests.worker.by_gray import CARD, ByGray
from tests.worker.chests import chest_with_bulla, dice, volume_of
from worker.candidates import by_size, filter_candidates
from worker.chest_network import ChestNetwork
from worker.findings import LEFT, Lungs
from worker.geometry import Geometry
from worker.networks.card import Card
from worker.networks.checkpoint import save
from worker.networks.engine import Engine
from worker.networks.errors import NetworkError
from worker.networks.registry import build
from worker.pipeline import analyze
from worker.volume import Volume


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_left_and_right_are_the_patients_own_whatever_the_signs_of_the_cosines(signs: tuple[int, int, int]) -> None:
    hu, truth, _ = chest_hu()
    found = ChestNetwork(ByGray(), CARD).segment_lungs(volume_of(hu, signs)).labels
    found = found[tuple(slice(None, None, sign) for sign in signs)]
    assert dice(found == 1, truth == 1) > 0.93
    assert dice(found == 2, truth == 2) > 0.93


def test_a_lung_alone_is_not_taken_for_two() -> None:
    hu, truth, _ = chest_hu()
    hu[truth == 1] = 40
    found = ChestNetwork(ByGray(), CARD).segment_lungs(volume_of(hu)).labels
    assert not (found == 1).any()
    assert dice(found == 2, truth == 2) > 0.93


def test_what_looks_like_lung_outside_the_body_is_not_lung() -> None:
    hu, truth, _ = chest_hu()
    hu[:, :22, 98:] = -860  # air between blankets
    found = ChestNetwork(ByGray(lung_from=0.12), CARD).segment_lungs(volume_of(hu)).labels
    assert not found[:, :15, 115:].any()
    assert dice(found > 0, truth > 0) > 0.9


def test_the_dome_of_the_diaphragm_is_not_lung_and_what_lung_encloses_on_all_sides_is() -> None:
    hu, _, _ = chest_hu(infected=False)
    dome, nodule = (slice(0, 14), slice(40, 56), slice(84, 100)), (slice(24, 30), slice(40, 56), slice(84, 100))
    hu[dome] = hu[nodule] = 40
    found = ChestNetwork(ByGray(), CARD).segment_lungs(volume_of(hu)).labels
    assert not found[10:13, 44:52, 88:96].any()
    assert found[nodule].all()


def infection_of(engine: Engine, volume: Volume, lungs: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return ChestNetwork(engine, CARD).segment_infection(volume, Lungs(lungs, volume.geometry)).mask.array


def test_regions_tell_how_probable_the_network_found_them() -> None:
    class HalfSure(ByGray):
        def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            logits = super().__call__(batch)
            return np.where(logits[:, [2]] > 0, np.float32([0, 0, 2, 0]).reshape(1, 4, 1, 1), logits)

    hu, truth, _ = chest_hu()
    volume = volume_of(hu)
    lungs = Lungs(truth, volume.geometry)
    mean = {}
    for engine in (ByGray(), HalfSure()):
        candidates = ChestNetwork(engine, CARD).segment_infection(volume, lungs)
        _, regions = filter_candidates(volume, candidates, by_size)
        assert regions[0].probability is not None
        mean[type(engine)] = regions[0].probability
    assert mean[ByGray] > 0.9
    # A logit of 2 beside three logits of 0 has the probability 0.71; at the border of the region it is lower.
    assert 0.6 < mean[HalfSure] < 0.72


def test_infection_is_found_where_it_is() -> None:
    hu, truth, infection = chest_hu()
    volume = volume_of(hu)
    found = infection_of(ByGray(), volume, truth)
    assert (found & infection).sum() > 0.9 * infection.sum()
    assert (found & ~infection).sum() < 0.4 * infection.sum()


def test_infection_stays_strictly_within_the_lungs() -> None:
    hu, truth, _ = chest_hu()
    hu[:, 10:20, 50:80] = -500
    volume = volume_of(hu)
    found = infection_of(ByGray(), volume, truth)
    assert not found[truth == 0].any()


def test_what_is_in_one_thin_slice_alone_is_not_a_lesion() -> None:
    hu, truth, _ = chest_hu((80, 96, 128), infected=False)
    hu[40, 40:56, 24:40] = -500
    volume = volume_of(hu)
    volume.geometry.affine[2, 0] = 1.0
    found = infection_of(ByGray(), volume, truth)
    assert not found[40, 44:52, 28:36].any()


def test_without_lungs_nothing_is_asked_for_infection() -> None:
    hu, truth, _ = chest_hu()
    volume = volume_of(hu)
    engine = ByGray()
    assert not infection_of(engine, volume, truth * 0).any()
    assert engine.seen == []


def test_the_network_sees_each_slice_as_it_is_and_mirrored() -> None:
    hu, truth, _ = chest_hu()
    volume = volume_of(hu)
    engine = ByGray()
    infection_of(engine, volume, truth)
    plain, mirrored = engine.seen[:2]
    assert np.array_equal(plain[..., ::-1], mirrored)


def test_thin_slices_are_read_together_and_still_each_is_segmented() -> None:
    hu, truth, infection = chest_hu((80, 96, 128))
    volume = volume_of(hu)
    volume.geometry.affine[2, 0] = 1.0
    engine = ByGray()
    lungs = ChestNetwork(engine, CARD).segment_lungs(volume).labels
    assert sum(len(batch) for batch in engine.seen) == 40
    assert dice(lungs > 0, truth > 0) > 0.93
    found = infection_of(ByGray(), volume, truth)
    assert (found & infection).sum() > 0.8 * infection.sum()


class OneSided(ByGray):
    """An engine that finds infection only in the right half of its input, and so another one in the mirror image."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().__call__(batch)
        half = logits[..., : logits.shape[-1] // 2]
        half[:, 1], half[:, 2] = np.maximum(half[:, 1], half[:, 2]), 0
        return logits


def test_readings_that_disagree_are_flagged_and_those_that_agree_are_not() -> None:
    hu, truth, _ = chest_hu()
    volume = volume_of(hu)
    for engine, expected in ((ByGray(), []), (OneSided(), ["network-unsure"])):
        flags = ChestNetwork(engine, CARD).segment_infection(volume, Lungs(truth, volume.geometry)).doubts
        assert [flag.code for flag in flags] == expected
        assert all(flag.withholds_percentage for flag in flags)


class Overflowing(ByGray):
    """An engine whose logits are no numbers from its call ``first`` on, as after an overflow in 16 bits."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().__call__(batch)
        return logits if len(self.seen) < self.first else np.full_like(logits, np.nan)


@pytest.mark.parametrize("first", [1, 6], ids=["lungs", "infection"])
def test_logits_that_are_no_numbers_are_not_taken_for_healthy_lungs(tmp_path: Path, first: int) -> None:
    network = ChestNetwork(Overflowing(first), CARD)  # the lungs of 40 slices take 5 calls
    with pytest.raises(PassingFailure, match="not finite with by-gray"):
        analyze(ct_series(tmp_path, chest_hu()[0]), network.method)


def test_the_settings_say_how_high_a_layer_on_tissue_may_be_that_is_removed() -> None:
    settings = dict(ChestNetwork(ByGray(), CARD).method.algorithm.settings)
    assert settings["lowest_on_tissue"] == "8.0 mm or 1.5 slices"


def test_the_pipeline_measures_by_network_and_says_which(tmp_path: Path) -> None:
    hu, truth, infection = chest_hu()
    _, findings = analyze(ct_series(tmp_path, hu), ChestNetwork(ByGray(), CARD).method)
    true_percent = 100 * infection.sum() / (truth > 0).sum()
    assert findings.measurement("both").infected_percent == pytest.approx(true_percent, rel=0.25)
    assert findings.algorithm.name == "Hilum chest network"


@pytest.mark.parametrize(
    "changed", [{"classes": ("a", "b", "c", "d")}, {"window_hu": None}, {"image_size": (64, 96)}, {"image_size": None}]
)
def test_weights_of_another_kind_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    card = Card(**{**vars(CARD), **changed})  # type: ignore[arg-type]  # fields of a card
    save(tmp_path / "a.safetensors", build(card.network, card.arguments), card)
    with pytest.raises(NetworkError) as caught:
        ChestNetwork.open(tmp_path / "a.safetensors")
    assert caught.value.code == "no-chest-network"


def test_gas_of_the_bowel_below_a_lung_is_not_lung() -> None:
    hu, truth, _ = chest_hu()
    hu[4:11, 29:61, 84:106] = 40  # wall and diaphragm
    hu[4:10, 30:60, 85:105] = -972
    found = ChestNetwork(ByGray(lung_from=0.12), CARD).segment_lungs(volume_of(hu)).labels
    assert not found[5:9, 33:57, 88:102].any()
    assert dice(found[12:] > 0, truth[12:] > 0) > 0.9


def test_emphysema_low_in_a_lung_is_lung() -> None:
    hu, bulla = chest_with_bulla()
    found = ChestNetwork(ByGray(lung_from=0.1), CARD).segment_lungs(volume_of(hu)).labels
    assert (found[bulla] == LEFT).mean() > 0.95


def test_finding_the_lungs_takes_five_bytes_a_voxel_at_most() -> None:
    hu, _, _ = chest_hu((64, 256, 256))
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 0.8, 0.8, 0.8, 1
    volume = Volume(hu, Geometry(hu.shape, affine, "1.2"), (), body_part="CHEST")
    tracemalloc.start()
    lungs = ChestNetwork(ByGray(), CARD).segment_lungs(volume)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(np.unique(lungs.labels)) == {0, 1, 2}
    assert peak < 5 * hu.size, f"{peak / hu.size:.1f} bytes a voxel"
