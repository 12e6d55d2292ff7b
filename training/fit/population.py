"""Batch normalisation by mean and variance over all training examples, instead of moving averages."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Population:
    """Mean and variance of each channel of a module's input, over all its calls."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.variance = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Take in a batch, float (n, channels, ...). Chan et al. 1979, eq. 2.1."""
        variance, mean = torch.var_mean(values.float(), dim=[0, *range(2, values.ndim)], correction=0)
        count = values.numel() // values.shape[1]
        share = count / (self.count + count)
        step = mean - self.mean
        self.variance = (1 - share) * self.variance + share * variance + share * (1 - share) * step**2
        self.mean = self.mean + share * step
        self.count += count


@torch.no_grad()
def settle_statistics(network: nn.Module, run_all: Callable[[], None]) -> None:
    """Give each batch normalisation the statistics of its input while ``run_all`` shows the network all examples.

    Meanwhile the layers normalise by each batch's own statistics, as in training.
    """
    network.eval()
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
    populations = [Population() for _ in layers]
    hooks = [
        layer.register_forward_pre_hook(lambda _layer, inputs, population=population: population.add(inputs[0]))
        for layer, population in zip(layers, populations, strict=True)
    ]
    for layer in layers:
        layer.train()
    run_all()
    for hook in hooks:
        hook.remove()
    for layer, population in zip(layers, populations, strict=True):
        layer.load_state_dict(
            layer.state_dict() | {"running_mean": population.mean, "running_var": population.variance}
        )
    network.eval()
