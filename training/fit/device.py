"""The device, precision and memory layout of a network in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worker.networks.network import Layout, SegmentationNetwork
from worker.networks.precision import native_half


def choose_device() -> torch.device:
    """Return the GPU of this process if the machine has one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def mixed_precision(device: torch.device, layout: Layout) -> torch.autocast:
    """Return a context in which training's convolutions run in bfloat16, if the device's hardware computes in it.

    On CPU, 3D networks train in 32 bits: if a kernel is wider than its image, as in the deepest levels, the weight
    gradients of torch 2.13's bfloat16 3D convolutions on CPU are wrong, and often not finite.
    """
    is_safe = device.type != "cpu" or layout != "3d"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_safe and native_half(device) is torch.bfloat16)


def lay_out(network: SegmentationNetwork, device: torch.device) -> SegmentationNetwork:
    """Move a network to a device.

    Networks with 2D convolutions get the memory format channels last, which is faster; 3D ones would be slower in it.
    """
    convolves_planes = any(isinstance(module, nn.Conv2d) for module in network.modules())
    memory_format = torch.channels_last if convolves_planes else torch.preserve_format
    return network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]  # torch's stub omits this overload


def forward(network: nn.Module, layout: Layout, images: Tensor) -> Tensor:
    """Return logits of a batch of stacks.

    Parameters
    ----------
    network : Module
        A segmentation network, or one wrapped for several processes.
    images : Tensor of float, shape (n, slices, rows, columns)

    Returns
    -------
    Tensor of float
        (n, classes, slices, rows, columns).
    """
    if layout == "3d":
        logits: Tensor = network(images[:, None])
    elif layout == "2.5d":
        logits = network(images.contiguous(memory_format=torch.channels_last))
    else:
        logits = network(images)[:, :, None]
    return logits.float()
