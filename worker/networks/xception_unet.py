"""U-Net with an Xception encoder and CBAM: Shivdeo et al. 2021, section 4.1.

The paper gives the parts and a count of 38 million parameters, but not the layers. Here the encoder is Xception
(Chollet 2017, figure 5) up to the last separable convolution of its exit flow's first block. The decoder has two
residual blocks per level and ends each level in a CBAM (Woo et al. 2018). This makes 38.4 M parameters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from worker.networks.network import Layout, SegmentationNetwork


class XceptionUNet(SegmentationNetwork):
    """U-Net with an Xception encoder: (n, 1, rows, columns) to (n, classes, rows, columns).

    Parameters
    ----------
    classes : int
        Channels of the output.
    """

    layout: ClassVar[Layout] = "2d"

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.divisors = (1, 32, 32)
        self.encoder = XceptionEncoder()
        self.bridge = nn.Sequential(
            nn.MaxPool2d(2),
            nn.Conv2d(1024, 512, kernel_size=3, padding=1, bias=False),
            ResidualBlock(512),
            ResidualBlock(512),
        )
        widths = (512, 256, 128, 64, 32, 16)
        skips = (1024, 728, 256, 128, 0)
        self.decoder = nn.ModuleList(
            DecoderLevel(wide, narrow, skip) for (wide, narrow), skip in zip(pairwise(widths), skips, strict=True)
        )
        self.classifier = nn.Conv2d(widths[-1], classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        skips = self.encoder(x)
        x = self.bridge(skips[-1])
        for level in self.decoder:
            x = level(x, skips.pop() if skips else None)
        logits: Tensor = self.classifier(x)
        return logits


class XceptionEncoder(nn.Module):
    """Xception without its classifier: an image to features at 1/2, 1/4, 1/8 and 1/16 of its resolution.

    (n, 1, rows, columns) to four feature maps of 128, 256, 728 and 1024 channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.entry = nn.ModuleList([EntryBlock(64, 128), EntryBlock(128, 256), EntryBlock(256, 728)])
        self.middle = nn.Sequential(*(MiddleBlock(728) for _ in range(8)))
        self.exit = separable_convolutions(728, 728, 1024)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features, finest first."""
        features: list[Tensor] = []
        x = self.stem(x)
        for block in self.entry:
            fine, x = block(x)
            features.append(fine)
        features.append(self.exit(self.middle(x)))
        return features


class EntryBlock(nn.Module):
    """Two separable convolutions beside a strided shortcut; also returns the features before pooling."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolutions = separable_convolutions(channels_in, channels_out, channels_out)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=2, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at full and at half the resolution."""
        fine: Tensor = self.convolutions(x)
        return fine, self.pool(fine) + self.shortcut(x)


class MiddleBlock(nn.Module):
    """Three separable convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = separable_convolutions(channels, channels, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's shape."""
        refined: Tensor = x + self.convolutions(x)
        return refined


class DecoderLevel(nn.Module):
    """Double the resolution, fuse with the encoder's features, refine, attend.

    (n, channels_in, rows, columns) and (n, skip, 2 rows, 2 columns) to (n, channels_out, 2 rows, 2 columns).
    """

    def __init__(self, channels_in: int, channels_out: int, skip: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, output_padding=1)
        self.refine = nn.Sequential(
            nn.Conv2d(channels_out + skip, channels_out, kernel_size=3, padding=1, bias=False),
            ResidualBlock(channels_out),
            ResidualBlock(channels_out),
            ConvolutionalBlockAttention(channels_out),
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Return the refined features."""
        x = self.up(x)
        refined: Tensor = self.refine(x if skip is None else torch.cat([x, skip], dim=1))
        return refined


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, normalised and activated before each (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                nn.BatchNorm2d(channels),
                nn.LeakyReLU(0.1, inplace=True),
                nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            ]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's shape."""
        refined: Tensor = x + self.convolutions(x)
        return refined


class ConvolutionalBlockAttention(nn.Module):
    """CBAM: weight the channels, then the positions (Woo et al. 2018, equations 1 to 3).

    The reduction ratio of 16 and the 7x7 kernel are the paper's.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = nn.Sequential(
            nn.Linear(channels, channels // 16, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // 16, channels, bias=False),
        )
        self.places = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return weighted features of the input's shape."""
        weights = torch.sigmoid(self.channels(x.mean((2, 3))) + self.channels(x.amax((2, 3))))
        x = x * weights[:, :, None, None]
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.places(summary))


def separable_convolutions(*channels: int) -> nn.Sequential:
    """Return ReLU, 3x3 depthwise and 1x1 convolution, and batch normalisation, for each pair of successive channels."""
    layers: list[nn.Module] = []
    for channels_in, channels_out in pairwise(channels):
        layers += [
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_in, kernel_size=3, padding=1, groups=channels_in, bias=False),
            nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels_out),
        ]
    return nn.Sequential(*layers)
