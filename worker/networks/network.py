"""The interface of all networks, and of segmentation networks in particular."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import nn

Layout = Literal["2d", "2.5d", "3d"]
"""How a network receives a scan: as single slices, as neighbouring slices in the channels, or as stacks of slices."""


class Network(nn.Module, ABC):
    """Base class of every network in the registry."""

    @property
    @abstractmethod
    def example_shape(self) -> tuple[int, ...]:
        """The shape of a small input, for engines that trace a network before they run it."""


class SegmentationNetwork(Network):
    """A network that maps a window of slices to a logit for every class of every pixel.

    ======  =============================  ===================================
    layout  input                          logits
    ======  =============================  ===================================
    2d      (n, 1, rows, columns)          (n, classes, rows, columns)
    2.5d    (n, 3, rows, columns)          (n, classes, 3, rows, columns)
    3d      (n, 1, slices, rows, columns)  (n, classes, slices, rows, columns)
    ======  =============================  ===================================

    With one class, the logits are for a sigmoid; with two or more, for a softmax with the background first.

    Attributes
    ----------
    layout : Layout
    classes : int
    divisors : tuple of int
        (slices, rows, columns) of the input must be multiples of these.
    """

    layout: ClassVar[Layout]
    classes: int
    divisors: tuple[int, int, int]

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of the smallest input."""
        slices, rows, columns = self.divisors
        match self.layout:
            case "2d":
                return 1, 1, rows, columns
            case "2.5d":
                return 1, 3, rows, columns
            case "3d":
                return 1, 1, slices, rows, columns


def initialize_for_relu(network: nn.Module) -> None:
    """Draw convolution weights so that ReLU keeps their variance; zero biases (He et al. 2015, eq. 10)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_running_statistics(network: nn.Module) -> int:
    """Return the number of batch-normalisation means and variances: Keras's non-trainable parameters."""
    return sum(b.numel() for b in network.buffers() if torch.is_floating_point(b))
