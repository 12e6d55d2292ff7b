"""SegNet: Saood & Hatem 2021, "SegNet architecture"; Badrinarayanan et al. 2017, section 3.

The paper's text describes the convolutions of VGG16 as the encoder; the code published with it (MATLAB's
``segnetLayers`` with an encoder depth of 3) has three levels of two 64-channel convolutions. Both are implemented here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from worker.networks.network import Layout, SegmentationNetwork, initialize_for_relu

PUBLISHED = ((64, 64), (64, 64), (64, 64))
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of every convolution, by level. VGG16: Simonyan & Zisserman 2015, table 1, column D."""


class SegNet(SegmentationNetwork):
    """SegNet as published: (n, 1, rows, columns) to (n, classes, rows, columns).

    It has 372,486 parameters with two classes, 373,644 with four. As in MATLAB's ``segnetLayers``, the last convolution
    too is followed by a ReLU, so logits are never negative; where all are zero, the first class (background) wins.

    Parameters
    ----------
    classes : int
        Channels of the output.
    """

    layout: ClassVar[Layout] = "2d"
    levels: ClassVar[Sequence[Sequence[int]]] = PUBLISHED
    channels_in: ClassVar[int] = 1

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.classes = classes
        self.divisors = (1, 2 ** len(self.levels), 2 ** len(self.levels))
        # Channels on the outer side of each level: the input of its encoder and the output of its decoder.
        outer = [self.channels_in, *(level[-1] for level in self.levels[:-1])]
        self.encoder = nn.ModuleList(
            convolutions([channels, *level]) for channels, level in zip(outer, self.levels, strict=True)
        )
        outer[0] = classes
        self.decoder = nn.ModuleList(
            convolutions([*reversed(level), channels])
            for channels, level in reversed(list(zip(outer, self.levels, strict=True)))
        )
        initialize_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        places: list[Tensor] = []
        for level in self.encoder:
            x, indices = nn.functional.max_pool2d(level(x), 2, return_indices=True)
            places.append(indices)
        for level in self.decoder:
            x = level(unpool(x, places.pop()))
        return x


class SegNetVGG16(SegNet):
    """SegNet as in the paper's text: the 13 convolutions of VGG16 and their mirror image, 29.44 M parameters.

    The encoder has 14,714,688 parameters and 8,448 of batch normalisation. The grey image is repeated in three input
    channels, as VGG16 expects: (n, 1, rows, columns) to (n, classes, rows, columns).
    """

    levels: ClassVar[Sequence[Sequence[int]]] = VGG16
    channels_in: ClassVar[int] = 3

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return super().forward(x.expand(-1, 3, -1, -1))


def unpool(x: Tensor, places: Tensor) -> Tensor:
    """Put every value back where 2x2 max-pooling took it from, with zeros elsewhere.

    Equivalent to ``max_unpool2d``, which cannot be traced. Both inputs are (n, channels, rows, columns); ``places``
    holds indices into the flattened image. The output is (n, channels, 2 rows, 2 columns), channels last in memory.
    """
    n, channels, rows, columns = x.shape
    # Channels last, the memory order in which the convolutions read and write, so nothing needs to be copied.
    index = places.permute(0, 2, 3, 1) * channels + torch.arange(channels, device=x.device)
    flat = x.new_zeros(n, 4 * rows * columns * channels)
    filled = flat.scatter(1, index.flatten(1), x.permute(0, 2, 3, 1).flatten(1))
    return filled.view(n, 2 * rows, 2 * columns, channels).permute(0, 3, 1, 2)


def convolutions(channels: Sequence[int]) -> nn.Sequential:
    """Return 3x3 convolutions from each number of channels to the next, with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels_in, channels_out in pairwise(channels):
        # Biases are needless before batch normalisation, but the published counts include them.
        layers += [
            nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
