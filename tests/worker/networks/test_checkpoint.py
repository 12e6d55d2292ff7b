"""Weights written to disk and read back, and files that must not load."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.worker.networks.small_unet import CARD
from worker.networks.checkpoint import load, save
from worker.networks.errors import NetworkError
from worker.networks.registry import NETWORKS, build


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    network = build(CARD.network, CARD.arguments)
    network(torch.rand(4, 1, 8, 8))  # changes the running statistics from their initial values
    return network.eval()


@pytest.fixture
def path(tmp_path: Path, network: torch.nn.Module) -> Path:
    save(tmp_path / "lungs.safetensors", network, CARD)
    return tmp_path / "lungs.safetensors"


def edit_card(path: Path, **changes: object) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def assert_equal(loaded: torch.nn.Module, saved: torch.nn.Module) -> None:
    expected = saved.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_round_trip_is_exact(path: Path, network: torch.nn.Module) -> None:
    loaded, _ = load(path)
    assert_equal(loaded, network)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"vnet-wide"}))  # which is a V-Net too, of 0.8 GB
def test_round_trip_of_every_network_is_exact(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = build(name, {})
    classes = ("background", "infection")[-getattr(network, "classes", 1) :]
    save(tmp_path / "network.safetensors", network, replace(CARD, network=name, arguments={}, classes=classes))
    loaded, card = load(tmp_path / "network.safetensors")
    assert_equal(loaded, network)
    assert card.network == name


def test_loaded_network_gives_the_same_logits_and_can_learn_on(path: Path, network: torch.nn.Module) -> None:
    loaded, _ = load(path)
    x = torch.rand(1, 1, 8, 8)
    assert not loaded.training
    assert torch.equal(loaded(x), network(x))
    assert all(p.requires_grad for p in loaded.parameters())


def test_card_comes_back_with_its_hash(path: Path, network: torch.nn.Module, tmp_path: Path) -> None:
    saved = save(tmp_path / "again.safetensors", network, CARD)
    _, card = load(path)
    assert card == saved
    assert replace(card, weights_sha256="") == CARD


def test_half_precision_comes_back_as_32_bits_close_to_the_original(tmp_path: Path, network: torch.nn.Module) -> None:
    path = tmp_path / "half.safetensors"
    save(path, network, CARD, half=True)
    loaded, _ = load(path)
    stored = safetensors.torch.load_file(path)
    assert stored["classifier.weight"].dtype == torch.float16
    assert all(t.dtype in (torch.float32, torch.int64) for t in loaded.state_dict().values())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)


def test_weight_beyond_half_precision_is_refused(tmp_path: Path, network: torch.nn.Module) -> None:
    torch.nn.init.constant_(network.get_parameter("classifier.weight"), 1e6)
    with pytest.raises(NetworkError) as caught:
        save(tmp_path / "half.safetensors", network, CARD, half=True)
    assert caught.value.code == "weights-exceed-half"


def test_card_of_another_network_is_not_saved(tmp_path: Path, network: torch.nn.Module) -> None:
    with pytest.raises(NetworkError) as caught:
        save(tmp_path / "lungs.safetensors", network, replace(CARD, network="segnet"))
    assert caught.value.code == "card-does-not-fit"
    assert list(tmp_path.iterdir()) == []


def test_card_that_names_too_few_classes_is_not_saved(tmp_path: Path, network: torch.nn.Module) -> None:
    with pytest.raises(NetworkError, match="2 classes, the card names 1"):
        save(tmp_path / "lungs.safetensors", network, replace(CARD, classes=("infection",)))


def test_changed_weights_do_not_load(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(NetworkError) as caught:
        load(path)
    assert caught.value.code == "wrong-weights-hash"


def test_unknown_network_does_not_load(path: Path) -> None:
    edit_card(path, network="unett")
    with pytest.raises(NetworkError, match="did you mean 'unet'") as caught:
        load(path)
    assert caught.value.code == "unknown-network"


def test_weights_of_other_arguments_do_not_load(path: Path) -> None:
    edit_card(path, arguments=CARD.arguments | {"width": 8})
    with pytest.raises(NetworkError, match=r"expected \(2, 8, 1, 1\), got \(2, 4, 1, 1\)") as caught:
        load(path)
    assert caught.value.code == "weights-do-not-fit"


def test_missing_weights_do_not_load(path: Path) -> None:
    weights = safetensors.torch.load_file(path)
    del weights["classifier.bias"]
    data = safetensors.torch.save(weights)
    path.write_bytes(data)
    edit_card(path, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(NetworkError, match=r"'classifier\.bias'"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"window_hu": [600, -1200]},
        {"window_hu": "lung"},
        {"threshold": 1.5},
        {"classes": []},
        {"spacing_mm": [1.0, 1.0]},
        {"stack_slices": 0},
        {"image_size": [256]},
        {"metrics": {"dice": "good"}},
        {"licence": None},
        {"colour": "blue"},
    ],
)
def test_malformed_card_does_not_load(path: Path, changes: dict[str, object]) -> None:
    edit_card(path, **changes)
    with pytest.raises(NetworkError, match=next(iter(changes))) as caught:
        load(path)
    assert caught.value.code == "bad-card"


@pytest.mark.parametrize("text", ["", "[]", "null"])
def test_card_that_is_no_card_does_not_load(path: Path, text: str) -> None:
    path.with_suffix(".json").write_text(text)
    with pytest.raises(NetworkError) as caught:
        load(path)
    assert caught.value.code == "bad-card"


def test_card_without_a_field_does_not_load(path: Path) -> None:
    card = path.with_suffix(".json")
    values = json.loads(card.read_text())
    del values["licence"]
    card.write_text(json.dumps(values))
    with pytest.raises(NetworkError, match="licence"):
        load(path)


def test_loading_imports_nothing_of_training_or_the_node(path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from worker.networks.checkpoint import load\n"
        "load(pathlib.Path(sys.argv[1]))\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('training', 'dicom_node')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
