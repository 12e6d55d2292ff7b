"""Deep Dream: the images that a network's classes respond to most. Saood & Hatem 2021, figure 5.

Mordvintsev et al. 2015: climb the gradient of a class with respect to the image, from noise, at growing sizes.
"""

from __future__ import annotations

from argparse import Namespace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from dicom_node.errors import SettingsError
from training.files import refuse_unwritable, replace_file
from training.fit.pretrained import open_weights
from worker.networks.network import SegmentationNetwork

SIZES = (128, 184, 256)
"""Sides of the image in pixels, about a factor of 1.4 apart, as in MATLAB's ``deepDreamImage``."""

STEPS = 10
STEP_LENGTH = 0.05


def dream(arguments: Namespace) -> int:
    """Write one picture with an image for every class, side by side."""
    refuse_unwritable(arguments.out)
    network, card = open_weights(arguments.weights, "WEIGHTS")
    if not isinstance(network, SegmentationNetwork) or network.layout != "2d":
        raise SettingsError("not-2d", f"deep dreams need a 2D segmentation network, got {card.network}")
    images = [dream_of(network, channel) for channel in range(network.classes)]
    picture = Image.fromarray(np.hstack(images))
    replace_file(arguments.out, lambda partial: picture.save(partial, "PNG"))
    return 0


def dream_of(network: SegmentationNetwork, channel: int) -> NDArray[np.uint8]:
    """Return the image to which a channel of the network responds most, uint8 (rows, columns)."""
    generator = torch.Generator().manual_seed(0)
    image = 0.5 + 0.05 * torch.randn(1, 1, SIZES[0], SIZES[0], generator=generator)
    for size in SIZES:
        image = functional.interpolate(image, (size, size), mode="bicubic")
        for _ in range(STEPS):
            image = image.detach().requires_grad_()
            response = responses(network, image)[:, channel].mean()
            (gradient,) = torch.autograd.grad(response, image)
            image = (image + STEP_LENGTH * gradient / gradient.std().clamp(min=1e-8)).clamp(0, 1)
    gray: NDArray[np.uint8] = (image[0, 0].detach() * 255).round().to(torch.uint8).numpy()
    return gray


def responses(network: SegmentationNetwork, image: Tensor) -> Tensor:
    """Return a network's response for each class, (n, classes, rows, columns), to images (n, 1, rows, columns).

    A ReLU at the network's end is left out: where a class does not respond, its gradient is 0 and cannot be climbed.
    """
    *_, last = network.modules()
    if not isinstance(last, nn.ReLU):
        return cast(Tensor, network(image))
    before: list[Tensor] = []
    # A copy, because the ReLU works in place.
    hook = last.register_forward_pre_hook(lambda _module, given: before.append(given[0].clone()))
    network(image)
    hook.remove()
    return before[0]
