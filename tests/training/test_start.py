from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dicom_node.errors import SettingsError
from tests.worker.test_chest_network import CARD
from training.start import take_over
from worker.networks.checkpoint import save
from worker.networks.network import SegmentationNetwork
from worker.networks.registry import build


def unet(classes: int = 4, width: int = 1) -> SegmentationNetwork:
    network = build("unet", {**CARD.arguments, "classes": classes, "width": width})
    assert isinstance(network, SegmentationNetwork)
    return network


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save(tmp_path / "weights.safetensors", unet(), CARD)
    return tmp_path / "weights.safetensors"


def same(one: SegmentationNetwork, other: SegmentationNetwork) -> set[str]:
    others = other.state_dict()
    return {n for n, t in one.state_dict().items() if t.shape == others[n].shape and torch.equal(t, others[n])}


def test_a_network_of_the_same_classes_gets_every_weight(weights: Path) -> None:
    network, source = unet(), unet()
    take_over(source, weights, CARD.classes)
    take_over(network, weights, CARD.classes)
    assert same(network, source) == set(network.state_dict())


def test_what_answers_for_classes_starts_anew_where_they_are_others(weights: Path) -> None:
    source, network = unet(), unet()
    take_over(source, weights, CARD.classes)
    take_over(network, weights, ("background", "lung", "ground_glass_opacity", "consolidation"))
    assert set(network.state_dict()) - same(network, source) == {"classifier.weight"}


def test_there_may_be_more_classes(weights: Path) -> None:
    network = unet(classes=5)
    take_over(network, weights, (*CARD.classes, "tumour"))
    assert not torch.isnan(network(torch.zeros(network.example_shape))).any()


def test_weights_of_a_wider_network_are_refused(weights: Path) -> None:
    with pytest.raises(SettingsError, match="other layers"):
        take_over(unet(width=2), weights, CARD.classes)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    segnet = build("segnet", {"classes": 4})
    save(tmp_path / "w.safetensors", segnet, replace(CARD, network="segnet", arguments={"classes": 4}))
    with pytest.raises(SettingsError, match="'segnet' of other layers"):
        take_over(unet(), tmp_path / "w.safetensors", CARD.classes)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"w\.json|w\.safetensors"):
        take_over(unet(), tmp_path / "w.safetensors", CARD.classes)


def test_damaged_weights_are_refused(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(SettingsError, match="SHA-256"):
        take_over(unet(), weights, CARD.classes)
