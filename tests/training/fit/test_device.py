from typing import get_args

import pytest
import torch
from torch import nn

from tests.training.synthetic import tiny_network
from training.fit.device import forward, lay_out, mixed_precision
from worker.networks.network import Layout
from worker.networks.registry import build

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_weight_gradients_in_mixed_precision_are_those_of_32_bits(layout: Layout, side: int) -> None:
    torch.manual_seed(0)
    convolution: nn.Module
    if layout == "3d":
        convolution, x = nn.Conv3d(32, 32, 5, padding=2), torch.randn(1, 32, side, side, side)
    else:
        convolution, x = nn.Conv2d(32, 32, 3, padding=1), torch.randn(1, 32, side, side)

    def gradient() -> torch.Tensor:
        convolution.zero_grad()
        convolution(x).float().square().sum().backward()
        assert isinstance(convolution.weight, nn.Parameter)
        assert convolution.weight.grad is not None
        return convolution.weight.grad.clone()

    expected = gradient()
    with mixed_precision(CPU, layout):
        found = gradient()
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_2d_networks_lie_with_channels_last() -> None:
    network = lay_out(tiny_network(), CPU)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels > 1]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("unet", {"classes": 2, "width": 2, "depth": 1}, (2, 1, 8, 8)),
        ("unet-2.5d", {"classes": 2, "width": 2, "depth": 1}, (2, 3, 8, 8)),
        ("vnet", {"classes": 2}, (1, 16, 16, 16)),
    ],
)
def test_every_layout_gives_logits_of_every_slice(
    name: str, arguments: dict[str, int], shape: tuple[int, int, int, int]
) -> None:
    network = build(name, arguments).eval()
    logits = forward(network, network.layout, torch.rand(shape))
    assert logits.shape == (shape[0], 2, *shape[1:])
    assert logits.dtype is torch.float32
