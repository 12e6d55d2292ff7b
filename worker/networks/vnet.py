"""V-Net, in its canonical size (Milletari et al. 2016, figure 2) and in that of Shivdeo et al. 2021, section 4.2.

The canonical V-Net has 45.59 M parameters. Shivdeo's has 206 M, without a description of its layers. Twice the
channels, with up-convolutions that keep the width of their level, give 205.84 M.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from monai.networks.nets.vnet import DownTransition, InputTransition, LUConv, UpTransition
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
        Share of channels dropped in training, in the two deepest levels and in the skip connections.
    width : int
        Channels of the first level; each level down doubles them. The paper has 16.
    """

    layout: ClassVar[Layout] = "3d"

    def __init__(self, classes: int = 1, dropout: float = 0.5, width: int = 16) -> None:
        super().__init__()
        self.classes = classes
        self.divisors = (16, 16, 16)
        self.stem = InputTransition(3, 1, width, ACTIVATION)
        self.down = nn.ModuleList(
            [
                DownTransition(3, width, 1, ACTIVATION),
                DownTransition(3, 2 * width, 2, ACTIVATION),
                DownTransition(3, 4 * width, 3, ACTIVATION, dropout_prob=dropout),
                DownTransition(3, 8 * width, 2, ACTIVATION, dropout_prob=dropout),
            ]
        )
        self.up = self.decoder(width, dropout)
        # As in figure 2 of Milletari et al. MONAI's output block first reduces all features to as many channels as
        # there are classes, with batch normalisation, and then learns rare classes late or never.
        self.head = nn.Conv3d(2 * width, classes, kernel_size=1)

    def decoder(self, width: int, dropout: float) -> nn.ModuleList:
        """Return the decoder; each level takes the output of the level below and the encoder's features."""
        return nn.ModuleList(
            [
                UpTransition(3, 16 * width, 16 * width, 2, ACTIVATION, (dropout, dropout)),
                UpTransition(3, 16 * width, 8 * width, 2, ACTIVATION, (dropout, dropout)),
                UpTransition(3, 8 * width, 4 * width, 1, ACTIVATION, (None, dropout)),
                UpTransition(3, 4 * width, 2 * width, 1, ACTIVATION, (None, dropout)),
            ]
        )

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


class WideVNet(VNet):
    """V-Net with twice the channels, 205.84 M parameters: (n, 1, slices, rows, columns) to (n, classes, ...).

    Parameters
    ----------
    classes : int
        Channels of the output.
    dropout : float
        Share of channels dropped in training, in the two deepest levels of the encoder.
    """

    def __init__(self, classes: int = 1, dropout: float = 0.5) -> None:
        super().__init__(classes, dropout, width=32)

    def decoder(self, width: int, dropout: float) -> nn.ModuleList:
        """Return the decoder, which has no dropout."""
        return nn.ModuleList(
            [
                WideUpTransition(16 * width, 16 * width, skip=8 * width, convolutions=2),
                WideUpTransition(16 * width, 8 * width, skip=4 * width, convolutions=2),
                WideUpTransition(8 * width, 4 * width, skip=2 * width, convolutions=1),
                WideUpTransition(4 * width, 2 * width, skip=width, convolutions=1),
            ]
        )


class WideUpTransition(nn.Module):
    """Double the resolution, fuse with the encoder's features, and refine in a residual block with 5x5x5 kernels.

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
