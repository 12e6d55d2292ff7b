"""V-Net, canonical and in the size of Shivdeo et al. 2021, section 4.2; Milletari et al. 2016, figure 2.

The canonical V-Net has 45.59 M parameters; Shivdeo's has 206 M and no description of its layers. Twice the
channels, with up-convolutions that keep the width of their level, come to 205.85 M.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from monai.networks.nets.vnet import DownTransition, InputTransition, LUConv, OutputTransition
from monai.networks.nets.vnet import VNet as MonaiVNet
from torch import Tensor, nn

from worker.networks.network import Layout, SegmentationNetwork

ACTIVATION = ("elu", {"inplace": True})


class VNet(SegmentationNetwork):
    """V-Net on stacks: (n, 1, slices, rows, columns) to (n, classes, slices, rows, columns).

    Parameters
    ----------
    classes : int
        Channels of the output.
    dropout : float
        Share of channels dropped in the two deepest levels and in the skip connections, in training.
    """

    layout: ClassVar[Layout] = "3d"

    def __init__(self, classes: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        self.classes = classes
        self.divisors = (16, 16, 16)
        self.vnet = MonaiVNet(out_channels=classes, dropout_prob_down=dropout, dropout_prob_up=(dropout, dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.vnet(x)
        return logits


class WideVNet(SegmentationNetwork):
    """V-Net with twice the channels, 205.85 M: (n, 1, slices, rows, columns) to (n, classes, ...).

    Parameters
    ----------
    classes : int
        Channels of the output.
    dropout : float
        Share of channels dropped in the two deepest levels, in training.
    """

    layout: ClassVar[Layout] = "3d"

    def __init__(self, classes: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        self.classes = classes
        self.divisors = (16, 16, 16)
        self.stem = InputTransition(3, 1, 32, ACTIVATION)
        self.down = nn.ModuleList(
            [
                DownTransition(3, 32, 1, ACTIVATION),
                DownTransition(3, 64, 2, ACTIVATION),
                DownTransition(3, 128, 3, ACTIVATION, dropout_prob=dropout),
                DownTransition(3, 256, 2, ACTIVATION, dropout_prob=dropout),
            ]
        )
        self.up = nn.ModuleList(
            [
                WideUpTransition(512, 512, skip=256, convolutions=2),
                WideUpTransition(512, 256, skip=128, convolutions=2),
                WideUpTransition(256, 128, skip=64, convolutions=1),
                WideUpTransition(128, 64, skip=32, convolutions=1),
            ]
        )
        self.head = OutputTransition(3, 64, classes, ACTIVATION)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        levels = [self.stem(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = up(x, levels.pop())
        logits: Tensor = self.head(x)
        return logits


class WideUpTransition(nn.Module):
    """Double the resolution, fuse with the encoder's features, and refine with a residual of 5^3 kernels.

    (n, channels_in, slices, rows, columns) and (n, skip, 2 slices, 2 rows, 2 columns) to
    (n, channels_out, 2 slices, 2 rows, 2 columns).
    """

    def __init__(self, channels_in: int, channels_out: int, skip: int, convolutions: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose3d(channels_in, channels_out, kernel_size=2, stride=2),
            nn.BatchNorm3d(channels_out),
            nn.ELU(inplace=True),
        )
        self.fuse = nn.Sequential(
            nn.Conv3d(channels_out + skip, channels_out, kernel_size=5, padding=2, bias=False),
            nn.BatchNorm3d(channels_out),
            nn.ELU(inplace=True),
        )
        self.refine = nn.Sequential(*(LUConv(3, channels_out, ACTIVATION) for _ in range(convolutions - 1)))
        self.activation = nn.ELU(inplace=True)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return the refined features."""
        x = self.up(x)
        refined: Tensor = self.activation(self.refine(self.fuse(torch.cat([x, skip], dim=1))) + x)
        return refined
