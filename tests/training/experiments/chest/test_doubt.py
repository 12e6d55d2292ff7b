from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.factories import chest_hu, ct_series
from tests.training.experiments.chest.slices import GRAY_NETWORK, slices_of
from tests.worker.by_gray import CARD, ByGray
from training import datasets
from training.experiments.chest.doubt import ALTERATIONS, is_withheld, shares, withheld
from training.experiments.chest.reading import Fold
from worker.chest_network import ChestNetwork
from worker.volume import Volume, read_volume


class LeftHalf:
    """An engine that finds infection in the left half of every image, mirrored or not."""

    name = "left-half"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = ByGray()(batch)
        half = batch.shape[-1] // 2
        logits[:, 2, :, :half], logits[:, 2, :, half:] = 20, -20
        return logits


@pytest.fixture
def chest(tmp_path: Path) -> Volume:
    return read_volume(ct_series(tmp_path, chest_hu()[0]))


def shares_of(network: ChestNetwork, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(datasets, "read", lambda *_: iter([*slices_of("a"), *slices_of("b")]))
    return dict(shares(Fold(network, frozenset({"b"})), Path(), every=3))


def test_every_alteration_is_told_of_those_whom_the_network_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares_of(GRAY_NETWORK, monkeypatch).keys() == {f"{name}/b/difference_share" for name in ALTERATIONS}


def test_a_network_that_reads_the_mirror_image_alike_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares_of(GRAY_NETWORK, monkeypatch)["as-it-is/b/difference_share"] == pytest.approx(0, abs=1e-3)


def test_a_network_that_finds_what_it_finds_on_one_side_is_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares_of(ChestNetwork(LeftHalf(), CARD), monkeypatch)["as-it-is/b/difference_share"] > 1


def test_alterations_leave_shape_and_type() -> None:
    hu = chest_hu()[0]
    for name, alter in ALTERATIONS.items():
        altered = alter(hu)
        assert (altered.shape, altered.dtype) == (hu.shape, np.int16)
        assert (name == "as-it-is") == np.array_equal(altered, hu)


def test_lung_that_is_inverted_is_dense_and_tissue_is_not() -> None:
    assert ALTERATIONS["inverted"](np.array([-850, 50], np.int16)).tolist() == [250, -650]


def test_a_chest_gets_its_figure_and_one_inverted_does_not(chest: Volume) -> None:
    figures = withheld("chest", chest, GRAY_NETWORK.method)
    assert figures["as-it-is/chest/withheld"] == 0
    assert figures["inverted/chest/withheld"] == 1


def test_a_figure_that_is_refused_is_withheld(chest: Volume) -> None:
    assert is_withheld(replace(chest, hu=np.full_like(chest.hu, 40)), GRAY_NETWORK.method)
