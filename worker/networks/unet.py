"""U-Net in 2D and 2.5D: Wu et al. 2020, figures 5 and 6; Saood & Hatem 2021, "U-NET architecture".

The layers are those of Ronneberger et al. 2015, figure 1, with padded convolutions. Wu's network has 64 to 1024
channels (31.03 M parameters); Saood's, MATLAB's ``unetLayers`` with an encoder depth of 2, has 64 to 256,
dropout, and a ReLU after each up-convolution (1,861,762 parameters with two classes). For machines without a GPU,
fewer channels or an input of blocks of pixels make the network faster.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from worker.networks.network import Layout, SegmentationNetwork, initialize_for_relu


class UNet(SegmentationNetwork):
    """U-Net on single slices: (n, 1, rows, columns) to (n, classes, rows, columns).

    Parameters
    ----------
    classes : int
        Channels of the output.
    width : int
        Channels of the first level; every level down doubles them.
    depth : int
        How often the image is halved; rows and columns must be multiples of ``block * 2 ** depth``.
    batch_norm : bool
        Whether each 3x3 convolution is followed by batch normalisation; in the papers it is not.
    dropout : float
        Share of activations dropped in training, before and after the deepest level.
    up_relu : bool
        Whether a ReLU follows each up-convolution; Ronneberger's have none.
    mean : float
        Subtracted from the input.
    scale : int
        Factor applied to the input after the mean is subtracted; MATLAB's networks expect gray levels of 0 to 255.
    block : int
        Side of the square blocks of pixels that are rearranged into channels at the input, and back at the output
        (Shi et al. 2016, section 3.2). With 2, every level has a quarter of the pixels, while masks keep the image's
        resolution.
    """

    layout: ClassVar[Layout] = "2d"
    slices: ClassVar[int] = 1

    def __init__(
        self,
        classes: int = 1,
        width: int = 64,
        depth: int = 4,
        batch_norm: bool = False,
        dropout: float = 0.0,
        up_relu: bool = False,
        mean: float = 0.0,
        scale: int = 1,
        block: int = 1,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.mean = mean
        self.scale = scale
        self.up_relu = up_relu
        self.block = block
        self.divisors = (1, block * 2**depth, block * 2**depth)
        widths = [width * 2**level for level in range(depth + 1)]
        self.contracting = nn.ModuleList(
            double_convolution(narrow, wide, batch_norm) for narrow, wide in pairwise([self.slices * block**2, *widths])
        )
        self.dropout = nn.Dropout(dropout)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(wide, narrow, kernel_size=2, stride=2) for wide, narrow in pairwise(reversed(widths))
        )
        self.expanding = nn.ModuleList(
            double_convolution(wide, narrow, batch_norm) for wide, narrow in pairwise(reversed(widths))
        )
        self.classifier = nn.Conv2d(width, classes * self.slices * block**2, kernel_size=1)
        initialize_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = nn.functional.pixel_unshuffle((x - self.mean) * self.scale, self.block)
        skips: list[Tensor] = []
        *shallower, deepest = self.contracting
        for convolutions in shallower:
            x = convolutions(x)
            skips.append(x)
            is_last = len(skips) == len(shallower)
            x = nn.functional.max_pool2d(self.dropout(x) if is_last else x, 2)
        x = self.dropout(deepest(x))
        for up, convolutions in zip(self.up, self.expanding, strict=True):
            raised = up(x).relu() if self.up_relu else up(x)
            x = convolutions(torch.cat([skips.pop(), raised], dim=1))
        return nn.functional.pixel_shuffle(self.classifier(x), self.block)


class UNet25D(UNet):
    """U-Net on three neighbouring slices: (n, 3, rows, columns) to (n, classes, 3, rows, columns).

    All three slices get a mask. Neighbouring windows overlap, and their predictions are averaged when a
    scan is segmented (``training.evaluate.scan``). Wu et al. 2020, "Network structure".
    """

    layout: ClassVar[Layout] = "2.5d"
    slices: ClassVar[int] = 3

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits = super().forward(x)
        return logits.reshape(logits.shape[0], self.classes, self.slices, *logits.shape[-2:])


def double_convolution(channels_in: int, channels_out: int, batch_norm: bool) -> nn.Sequential:
    """Return two 3x3 convolutions, each followed by batch normalisation, if wanted, and a ReLU."""
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        # Batch normalisation would cancel a bias.
        layers.append(nn.Conv2d(channels, channels_out, kernel_size=3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels_out))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
