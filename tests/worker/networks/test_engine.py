"""Engines give the network's own answer, and the same one."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from worker.networks import dense_unet
from worker.networks.engine import EngineName, TorchEngine, make_engine
from worker.networks.network import Network
from worker.networks.registry import NetworkError, build


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
    pytest.importorskip("openvino")
    from worker.networks.openvino_engine import OpenVinoEngine

    network, batch = network_and_batch
    engine = OpenVinoEngine(network, precision="f32", threads=1)
    expected = logits_of(network, batch)
    np.testing.assert_allclose(engine(batch), expected, atol=1e-3)
    np.testing.assert_allclose(engine(batch[:1]), expected[:1], atol=1e-3)


def test_engines_agree_in_16_bits() -> None:
    pytest.importorskip("openvino")
    from worker.networks.openvino_engine import OpenVinoEngine

    torch.manual_seed(0)
    network = build("unet", {"width": 8, "batch_norm": True})
    batch = np.random.default_rng(0).random((2, 1, 64, 64), np.float32)
    exact = 1 / (1 + np.exp(-logits_of(network.eval(), batch)))
    for engine in (OpenVinoEngine(network, precision="bf16", threads=1), TorchEngine(network, precision="bf16")):
        np.testing.assert_allclose(1 / (1 + np.exp(-engine(batch))), exact, atol=0.02)


def test_torch_engine_gives_the_networks_logits() -> None:
    network = build("unet", {"width": 4})
    batch = np.random.default_rng(0).random((2, 1, 32, 32), np.float32)
    expected = logits_of(network.eval(), batch)
    np.testing.assert_allclose(TorchEngine(network, precision="f32")(batch), expected, atol=1e-5)


def test_openvino_cannot_report_to_its_makers() -> None:
    import worker.networks.openvino_engine  # noqa: F401  # its import is what is tested

    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")


def test_engine_switches_dropout_and_batch_statistics_off() -> None:
    network = build("unet", {"width": 4, "dropout": 0.5, "batch_norm": True}).train()
    engine = TorchEngine(network, precision="f32")
    batch = np.random.default_rng(0).random((2, 1, 32, 32), np.float32)
    np.testing.assert_array_equal(engine(batch), engine(batch))


def test_name_says_library_device_and_precision() -> None:
    assert TorchEngine(build("unet", {"width": 4}), precision="bf16").name == "torch-cpu-bf16"


def test_auto_takes_openvino_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert make_engine(build("unet", {"width": 4})).name.startswith("openvino-cpu-")


def test_auto_takes_torch_where_openvino_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert make_engine(build("unet", {"width": 4})).name.startswith("torch-cpu-")


@pytest.mark.parametrize("name", ["cuda", "openvino"])
def test_an_engine_that_is_not_here_is_refused_not_replaced(monkeypatch: pytest.MonkeyPatch, name: EngineName) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NetworkError) as caught:
        make_engine(build("unet", {"width": 4}), name)
    assert caught.value.code == "engine-not-here"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_gives_the_networks_logits() -> None:
    network = build("unet", {"width": 8})
    batch = np.random.default_rng(0).random((2, 1, 64, 64), np.float32)
    expected = logits_of(network.eval(), batch)
    np.testing.assert_allclose(TorchEngine(network, "cuda", precision="f32")(batch), expected, atol=1e-2)
