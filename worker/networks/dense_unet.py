"""3D-DenseUNet-569: Alalwan et al. 2021, section 3, figure 1 and table 3.

The paper gives the kinds of layers and two counts: 36,270,875 trainable parameters, and 162,712 means and variances of
batch normalisation. The layout here matches the second count exactly. The paper's "3.6 million" is a slip of the
decimal point. For standard convolutions it states 180.6 M, but gives no layout with that many parameters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from worker.networks.network import Layout, SegmentationNetwork, initialize_for_relu

GROWTH = 32
BOTTLENECK = 128
LAYERS = (4, 12, 24, 36)
STEM = 96
DECODER = (504, 224, 192, 96, 64)
"""Channels after each doubling of the resolution; the first three double only rows and columns, not slices."""


class DenseUNet569(SegmentationNetwork):
    """Densely connected U-Net on stacks: (n, 1, slices, rows, columns) to (n, classes, ...).

    The paper's stacks have 12 slices of 224 x 224.

    Parameters
    ----------
    classes : int
        Channels of the output.
    separable : bool
        Whether the 3x3x3 convolutions of dense layers and transitions are depthwise (separable), or standard as in the
        comparison of tables 2 and 3.
    """

    layout: ClassVar[Layout] = "3d"

    def __init__(self, classes: int = 2, separable: bool = True) -> None:
        super().__init__()
        self.classes = classes
        self.divisors = (4, 32, 32)
        self.stem = convolution(1, STEM, kernel_size=7, stride=2)
        self.pool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        channels = STEM
        for layers in LAYERS:
            self.blocks.append(dense_block(channels, layers, separable))
            channels += layers * GROWTH
            if layers != LAYERS[-1]:
                self.transitions.append(transition(channels, separable))
                channels //= 2
        self.bottom = nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(inplace=True))
        self.decoder = nn.ModuleList(
            convolution(wide, narrow, kernel_size=3) for wide, narrow in pairwise([channels, *DECODER])
        )
        self.classifier = nn.Sequential(
            convolution(DECODER[-1], DECODER[-1], kernel_size=1),
            nn.Conv3d(DECODER[-1], classes, kernel_size=1),
        )
        initialize_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.stem(x)
        skips = [x]
        x = self.pool(x)
        for block, transition_down in zip(self.blocks, self.transitions, strict=False):
            x = block(x)
            skips.append(x)
            x = transition_down(x)
        x = self.bottom(self.blocks[-1](x))
        for level in self.decoder:
            doubles_slices = len(skips) < 2
            x = nn.functional.interpolate(x, scale_factor=(2.0 if doubles_slices else 1.0, 2.0, 2.0), mode="trilinear")
            x = level(add_skip(x, skips.pop()) if skips else x)
        logits: Tensor = self.classifier(x)
        return logits


class DenseLayer(nn.Module):
    """Normalise, reduce to ``BOTTLENECK`` channels, convolve to ``GROWTH`` channels, and append these to the input."""

    def __init__(self, channels: int, separable: bool) -> None:
        super().__init__()
        spread: list[nn.Module] = [nn.Conv3d(BOTTLENECK, GROWTH, kernel_size=3, padding=1, bias=False)]
        if separable:
            spread = [
                nn.Conv3d(BOTTLENECK, BOTTLENECK, 3, padding=1, groups=BOTTLENECK, bias=False),
                nn.BatchNorm3d(BOTTLENECK),
                nn.Conv3d(BOTTLENECK, GROWTH, kernel_size=1, bias=False),
            ]
        self.new_features = nn.Sequential(
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, BOTTLENECK, kernel_size=1, bias=False),
            nn.BatchNorm3d(BOTTLENECK),
            nn.ReLU(inplace=True),
            *spread,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with the new features appended as channels."""
        return torch.cat([x, self.new_features(x)], dim=1)


def dense_block(channels: int, layers: int, separable: bool) -> nn.Sequential:
    """Return layers that each get the output of all layers before them; they add ``layers * GROWTH`` channels."""
    return nn.Sequential(*(DenseLayer(channels + i * GROWTH, separable) for i in range(layers)))


def transition(channels: int, separable: bool) -> nn.Sequential:
    """Return layers that halve channels, rows and columns, with a strided convolution in place of pooling."""
    half = channels // 2
    return nn.Sequential(
        nn.BatchNorm3d(channels),
        nn.ReLU(inplace=True),
        nn.Conv3d(channels, half, kernel_size=1, bias=False),
        nn.Conv3d(half, half, 3, stride=(1, 2, 2), padding=1, groups=half if separable else 1, bias=False),
    )


def convolution(channels_in: int, channels_out: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Return a standard convolution with its batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm3d(channels_out),
        nn.ReLU(inplace=True),
    )


def add_skip(x: Tensor, skip: Tensor) -> Tensor:
    """Add the encoder's features to the first channels: the identity shortcut of He et al. 2015, option A.

    The paper's parameter count leaves no room for a concatenation or a projection.
    """
    missing = x.shape[1] - skip.shape[1]
    return x + nn.functional.pad(skip, (0, 0, 0, 0, 0, 0, 0, missing))
