"""Unpooling by indices."""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool2d, max_unpool2d

from worker.networks.segnet import unpool


def test_unpooling_equals_torchs() -> None:
    pooled, places = max_pool2d(torch.rand(2, 3, 8, 12), 2, return_indices=True)
    assert torch.equal(unpool(pooled, places), max_unpool2d(pooled, places, [2, 2]))
