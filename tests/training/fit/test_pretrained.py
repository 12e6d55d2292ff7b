from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dicom_node.errors import SettingsError
from tests.worker.by_gray import CARD
from training.fit.pretrained import head_tensors, load_pretrained, seen_before
from worker.networks.checkpoint import save
from worker.networks.network import SegmentationNetwork
from worker.networks.registry import build


def unet(classes: int = 4, width: int = 1) -> SegmentationNetwork:
    network = build("unet", {**CARD.arguments, "classes": classes, "width": width})
    assert isinstance(network, SegmentationNetwork)
    for weight in network.parameters():
        torch.nn.init.normal_(weight)  # some are zeros at first, so that two networks would agree
    return network


def saved(path: Path, classes: tuple[str, ...]) -> dict[str, Tensor]:
    network = unet(len(classes))
    card = replace(CARD, arguments={**CARD.arguments, "classes": len(classes)}, classes=classes)
    save(path, network, card)
    return network.state_dict()


def same(network: SegmentationNetwork, weights: dict[str, Tensor]) -> set[str]:
    own = network.state_dict()
    return {n for n, t in own.items() if t.shape == weights[n].shape and torch.equal(t, weights[n])}


@pytest.mark.parametrize("classes", [("infection",), ("background", "infection"), CARD.classes])
def test_a_network_of_the_same_classes_gets_every_weight(tmp_path: Path, classes: tuple[str, ...]) -> None:
    weights = saved(tmp_path / "w.safetensors", classes)
    network = unet(len(classes))
    load_pretrained(network, tmp_path / "w.safetensors", classes)
    assert same(network, weights) == set(weights)


@pytest.mark.parametrize("others", [("background", "lung", "consolidation", "tumour"), (*CARD.classes, "tumour")])
def test_the_head_begins_anew_where_classes_are_others(tmp_path: Path, others: tuple[str, ...]) -> None:
    weights = saved(tmp_path / "w.safetensors", CARD.classes)
    network = unet(len(others))
    load_pretrained(network, tmp_path / "w.safetensors", others)
    assert set(weights) - same(network, weights) == {"classifier.weight", "classifier.bias"}


def test_the_head_is_what_depends_on_the_number_of_classes() -> None:
    assert head_tensors(CARD) == {"classifier.weight", "classifier.bias"}


def test_weights_of_a_wider_network_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "w.safetensors", CARD.classes)
    with pytest.raises(SettingsError, match="other layers"):
        load_pretrained(unet(width=2), tmp_path / "w.safetensors", CARD.classes)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    segnet = build("segnet", {"classes": 4})
    save(tmp_path / "w.safetensors", segnet, replace(CARD, network="segnet", arguments={"classes": 4}))
    with pytest.raises(SettingsError, match="'segnet' of other layers"):
        load_pretrained(unet(), tmp_path / "w.safetensors", CARD.classes)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"w\.json.*lie together"):
        load_pretrained(unet(), tmp_path / "w.safetensors", CARD.classes)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    saved(path, CARD.classes)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SettingsError, match="SHA-256"):
        load_pretrained(unet(), path, CARD.classes)


@pytest.mark.parametrize(
    ("training_data", "seen"),
    [
        ("covid-19-ct-seg", []),
        ("covid-19-ct-seg; before that infection-slices, phantom", ["covid-19-ct-seg"]),
        ("labels; before that mosmed; before that labels", ["labels"]),
    ],
)
def test_sets_whose_patients_pretraining_had_seen_are_named(training_data: str, seen: list[str]) -> None:
    assert seen_before(["covid-19-ct-seg", "labels"], replace(CARD, training_data=training_data)) == seen
