"""U-Net's input, and the skip connections to its expanding path."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.networks.unet import UNet


def concatenated(network: UNet) -> list[Tensor]:
    """Return each expanding level's input for a random image: the skip's channels, then the upsampled ones."""
    seen: list[Tensor] = []
    for convolutions in network.expanding:
        convolutions.register_forward_pre_hook(lambda _module, given: seen.append(given[0].clone()))
    network(torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    return seen


def test_skips_are_whole_where_the_way_down_is_dropped() -> None:
    network = UNet(width=4, depth=1, dropout=0.5).train()
    skips: list[Tensor] = []
    network.contracting[0].register_forward_hook(lambda _module, _given, out: skips.append(out.clone()))
    (seen,) = concatenated(network)
    assert torch.equal(seen[:, :4], skips[0])


def test_a_relu_follows_each_up_convolution_where_asked_for() -> None:
    torch.manual_seed(0)
    assert all(level[:, level.shape[1] // 2 :].min() < 0 for level in concatenated(UNet(width=4, depth=2)))
    assert all(level.min() == 0 for level in concatenated(UNet(width=4, depth=2, up_relu=True)))


def test_the_input_is_read_in_gray_levels_less_their_mean_where_asked_for() -> None:
    network = UNet(width=4, depth=1, mean=0.25, scale=255)
    entered: list[Tensor] = []
    network.contracting[0].register_forward_pre_hook(lambda _module, given: entered.append(given[0].clone()))
    network(torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 1, 2, 2))
    assert entered[0].flatten().tolist() == [-63.75, 0.0, 63.75, 191.25]
