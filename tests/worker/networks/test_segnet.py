"""SegNet's unpooling by indices, and the ReLU after its last convolution."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import max_pool2d, max_unpool2d

from worker.networks.segnet import SegNet, unpool


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpooling_and_its_gradient_equal_torchs(memory_format: torch.memory_format) -> None:
    image = torch.rand(2, 3, 8, 12).to(memory_format=memory_format)
    pooled, places = max_pool2d(image, 2, return_indices=True)
    pooled.requires_grad_()
    ours, torchs = unpool(pooled, places), max_unpool2d(pooled, places, [2, 2])
    weight = torch.rand(2, 3, 8, 12)
    assert torch.equal(ours, torchs)
    assert torch.equal(*(torch.autograd.grad((image * weight).sum(), pooled)[0] for image in (ours, torchs)))


def test_the_last_convolution_has_a_relu_as_in_the_published_code() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        logits = SegNet(classes=2).eval()(torch.rand(1, 1, 16, 16))
    assert logits.min() == 0 < logits.max()
