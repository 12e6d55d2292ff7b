"""Every network of the registry: its size, its shapes, its gradients, and what ``build`` refuses."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from worker.networks.errors import NetworkError
from worker.networks.network import Network, SegmentationNetwork, count_parameters, count_running_statistics
from worker.networks.registry import NETWORKS, build
from worker.networks.segnet import SegNetVGG16

NARROW: dict[str, dict[str, Any]] = {"unet": {"width": 4}, "unet-2.5d": {"width": 4}}


def build_without_weights(name: str, **arguments: Any) -> Network:
    with torch.device("meta"):
        return build(name, arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("unet", {"depth": 2, "classes": 2}, 1_861_762),
        ("unet", {"depth": 2, "classes": 4}, 1_861_892),
        ("segnet", {"classes": 2}, 372_486),
        ("segnet", {"classes": 4}, 373_644),
    ],
)
def test_parameters_are_exactly_those_of_the_published_code(
    name: str, arguments: dict[str, Any], parameters: int
) -> None:
    assert count_parameters(build_without_weights(name, **arguments)) == parameters


@pytest.mark.parametrize(
    ("name", "arguments", "millions", "tolerance"),
    [
        ("unet", {}, 31.03, 0.001),
        ("unet-2.5d", {}, 31.03, 0.001),
        ("xception-unet", {}, 38.0, 0.02),
        ("vnet", {}, 45.59, 0.001),
        ("vnet-wide", {}, 206.0, 0.02),
        ("segnet-vgg16", {}, 29.44, 0.001),
        ("dense-unet-569", {}, 36.27, 0.03),
        ("patch-classifier", {}, 11.34, 0.001),
    ],
)
def test_parameters_are_those_of_the_paper(
    name: str, arguments: dict[str, Any], millions: float, tolerance: float
) -> None:
    network = build_without_weights(name, **arguments)
    assert count_parameters(network) / 1e6 == pytest.approx(millions, rel=tolerance)


def test_blocks_of_pixels_keep_the_size_of_the_mask_and_shrink_every_level() -> None:
    network = build("unet", {"classes": 3, "width": 4, "depth": 2, "block": 2})
    seen = []
    network.get_submodule("contracting.0").register_forward_hook(lambda _module, _given, out: seen.append(out.shape))
    assert network(torch.zeros(1, 1, 16, 24)).shape == (1, 3, 16, 24)
    assert seen == [(1, 4, 8, 12)]


def test_encoder_of_segnet_vgg16_has_the_convolutions_of_vgg16() -> None:
    encoder = SegNetVGG16().encoder
    convolutions = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(count_parameters(c) for c in convolutions) == 14_714_688
    assert count_parameters(encoder) == 14_723_136


def test_dense_unet_has_the_papers_non_trainable_parameters() -> None:
    assert count_running_statistics(build_without_weights("dense-unet-569")) == 162_712


def test_standard_convolutions_need_more_parameters_than_separable_ones() -> None:
    """The paper states 180.6 M parameters, but the layers that it describes do not have as many (docs/networks.md)."""
    standard = build_without_weights("dense-unet-569", separable=False)
    assert count_parameters(standard) / 1e6 == pytest.approx(53.0, rel=0.001)


def test_patch_classifier_has_a_feature_of_256_and_three_fully_connected_layers() -> None:
    network = build("patch-classifier", {}).eval()
    assert network.features(torch.zeros(2, 1, 48, 48)).shape == (2, 256)
    assert sum(isinstance(m, torch.nn.Linear) for m in network.classifier) == 3
    assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 1)


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("name", [n for n, kind in NETWORKS.items() if issubclass(kind, SegmentationNetwork)])
def test_logits_have_a_channel_for_each_class_and_the_inputs_size(name: str, classes: int) -> None:
    network = build_without_weights(name, classes=classes)
    assert isinstance(network, SegmentationNetwork)
    _, row_divisor, column_divisor = network.divisors
    slices = {"2d": 1, "2.5d": 3, "3d": 2 * network.divisors[0]}[network.layout]
    plane = (2 * row_divisor, 3 * column_divisor)
    if network.layout == "3d":
        given, expected = (2, 1, slices, *plane), (2, classes, slices, *plane)
    elif network.layout == "2.5d":
        given, expected = (2, slices, *plane), (2, classes, slices, *plane)
    else:
        given, expected = (2, 1, *plane), (2, classes, *plane)
    assert network(torch.zeros(given, device="meta")).shape == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_takes_part(name: str) -> None:
    network = build_without_weights(name)
    shape = (2, *(2 * n if axis else n for axis, n in enumerate(network.example_shape[1:])))
    network(torch.zeros(shape, device="meta")).sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "vnet-wide"])  # takes 1.6 GB
def test_gradients_are_finite(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, NARROW.get(name, {}))
    shape = (2, *(2 * n if axis else n for axis, n in enumerate(network.example_shape[1:])))
    network(torch.rand(shape)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NetworkError, match="did you mean 'segnet'") as caught:
        build("segent", {})
    assert caught.value.code == "unknown-network"


def test_unknown_argument_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NetworkError, match="did you mean 'width'") as caught:
        build("unet", {"widht": 16})
    assert caught.value.code == "unknown-network-argument"


@pytest.mark.parametrize(
    "arguments",
    [{"width": 0}, {"width": 8.0}, {"width": True}, {"width": "8"}, {"dropout": 1.0}, {"batch_norm": 1}],
)
def test_argument_of_a_wrong_kind_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(NetworkError, match=next(iter(arguments))) as caught:
        build("unet", arguments)
    assert caught.value.code == "bad-network-argument"


def test_error_keeps_its_code_across_processes() -> None:
    error = pickle.loads(pickle.dumps(NetworkError("a-code", "a message")))  # noqa: S301  # made on this line
    assert (error.code, error.message) == ("a-code", "a message")
