"""Every engine gives the network's own answer, and always the same one."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worker.networks.small_unet import CARD
from worker.networks import dense_unet
from worker.networks.card import Card
from worker.networks.checkpoint import load, save
from worker.networks.errors import NetworkError
from worker.networks.export import convert, export
from worker.networks.network import Network
from worker.networks.opening import open_engine
from worker.networks.openvino_engine import OpenVinoEngine
from worker.networks.registry import build
from worker.networks.torch_engine import TorchEngine


@pytest.fixture(scope="module", params=["unet-2.5d", "segnet", "dense-unet-569"])
def network_and_batch(request: pytest.FixtureRequest) -> tuple[Network, np.ndarray]:
    shapes = {"unet-2.5d": (2, 3, 32, 48), "segnet": (2, 1, 24, 32), "dense-unet-569": (2, 1, 8, 64, 32)}
    arguments = {"unet-2.5d": {"width": 4, "classes": 2}}
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_unet, "LAYERS", (1, 1, 1, 4))  # 569 layers take long to convert
        network = build(request.param, arguments.get(request.param, {})).eval()
    return network, np.random.default_rng(0).random(shapes[request.param], np.float32)


def logits_of(network: Network, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(batch)).numpy()


def test_openvino_gives_the_networks_logits_at_sizes_it_was_not_traced_at(
    network_and_batch: tuple[Network, np.ndarray],
) -> None:
    network, batch = network_and_batch
    engine = OpenVinoEngine(convert(network), precision="f32", threads=1)
    expected = logits_of(network, batch)
    np.testing.assert_allclose(engine(batch), expected, atol=1e-3)
    np.testing.assert_allclose(engine(batch[:1]), expected[:1], atol=1e-3)


def test_engines_agree_in_16_bits() -> None:
    torch.manual_seed(0)
    network = build("unet", {"width": 8, "batch_norm": True})
    batch = np.random.default_rng(0).random((2, 1, 64, 64), np.float32)
    exact = 1 / (1 + np.exp(-logits_of(network.eval(), batch)))
    openvino_engine = OpenVinoEngine(convert(network), precision="bf16", threads=1)
    for engine in (openvino_engine, TorchEngine(network, precision="bf16")):
        np.testing.assert_allclose(1 / (1 + np.exp(-engine(batch))), exact, atol=0.02)


def test_torch_engine_gives_the_networks_logits() -> None:
    network = build("unet", {"width": 4})
    batch = np.random.default_rng(0).random((2, 1, 32, 32), np.float32)
    expected = logits_of(network.eval(), batch)
    np.testing.assert_allclose(TorchEngine(network, precision="f32")(batch), expected, atol=1e-5)


def test_openvino_cannot_report_to_its_makers() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")


def test_engine_switches_dropout_and_batch_statistics_off() -> None:
    network = build("unet", {"width": 4, "dropout": 0.5, "batch_norm": True}).train()
    engine = TorchEngine(network, precision="f32")
    batch = np.random.default_rng(0).random((2, 1, 32, 32), np.float32)
    np.testing.assert_array_equal(engine(batch), engine(batch))


def test_name_says_library_device_and_precision() -> None:
    assert TorchEngine(build("unet", {"width": 4}), precision="bf16").name == "torch-cpu-bf16"


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, Card]:
    torch.manual_seed(0)
    path = tmp_path / "chest.safetensors"
    return path, save(path, build(CARD.network, CARD.arguments), CARD)


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_openvino_is_taken_where_weights_were_exported_and_there_is_no_gpu(
    weights: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_gpu(monkeypatch)
    path, _ = weights
    assert open_engine(path, export(path)).name.startswith("openvino-cpu-")


def test_torch_is_taken_where_weights_were_not_exported(
    weights: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_gpu(monkeypatch)
    assert open_engine(*weights).name.startswith("torch-cpu-")


def test_the_exported_network_gives_the_logits_of_its_weights(weights: tuple[Path, Card]) -> None:
    path, _ = weights
    batch = np.random.default_rng(0).random((2, 1, 32, 48), np.float32)
    expected = TorchEngine(load(path)[0])(batch)
    np.testing.assert_allclose(OpenVinoEngine.open(path, export(path))(batch), expected, atol=0.05)


def test_weights_that_were_not_exported_say_how_on_a_machine_without_torch(
    weights: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NetworkError, match="hilum export") as caught:
        open_engine(*weights)
    assert caught.value.code == "not-exported"


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".safetensors"])
def test_damaged_files_are_not_run(weights: tuple[Path, Card], suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)
    path, _ = weights
    card = export(path)
    damaged = path.with_suffix(suffix)
    damaged.write_bytes(damaged.read_bytes() + b" ")
    with pytest.raises(NetworkError) as caught:
        open_engine(path, card)
    assert caught.value.code == "wrong-weights-hash"


def test_what_was_exported_of_other_weights_is_not_run(
    weights: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_gpu(monkeypatch)
    path, _ = weights
    card = replace(export(path), openvino_sha256="0" * 64)
    with pytest.raises(NetworkError) as caught:
        open_engine(path, card)
    assert caught.value.code == "wrong-weights-hash"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_gives_the_networks_logits() -> None:
    network = build("unet", {"width": 8})
    batch = np.random.default_rng(0).random((2, 1, 64, 64), np.float32)
    expected = logits_of(network.eval(), batch)
    np.testing.assert_allclose(TorchEngine(network, "cuda", precision="f32")(batch), expected, atol=1e-2)
