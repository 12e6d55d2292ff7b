"""V-Net beside MONAI's."""

from __future__ import annotations

import torch
from monai.networks.nets.vnet import VNet as MonaiVNet
from torch import nn

from worker.networks.vnet import VNet


def test_canonical_v_net_computes_what_monais_does() -> None:
    ours, theirs = VNet(classes=2).eval(), MonaiVNet(out_channels=2).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    stack = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(ours(stack), theirs(stack))


def test_without_dropout_nothing_is_dropped() -> None:
    network = VNet(dropout=0.0, width=2)
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout3d)} == {0.0}
