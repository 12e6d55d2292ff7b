"""V-Net compared with MONAI's."""

from __future__ import annotations

import torch
from monai.networks.nets.vnet import VNet as MonaiVNet
from torch import nn

from worker.networks.vnet import VNet


def test_canonical_v_net_computes_what_monais_does_up_to_the_head() -> None:
    ours, theirs = VNet().eval(), MonaiVNet().eval()
    ours.head = theirs.out_tr = nn.Identity()  # type: ignore[assignment]  # replaces the head
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    stack = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(ours(stack), theirs(stack))


def test_without_dropout_nothing_is_dropped() -> None:
    network = VNet(dropout=0.0, width=2)
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout3d)} == {0.0}
