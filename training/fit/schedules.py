"""Optimisers and learning rates of the papers, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

NORMALISATIONS = (nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Step:
    """The learning rate is multiplied by ``factor`` every ``epochs``."""

    factor: float
    epochs: int

    def rate(self, progress: float, epoch: int) -> float:
        """Return the share of the initial rate."""
        return float(self.factor ** (epoch // self.epochs))


@dataclass(frozen=True)
class Polynomial:
    """The learning rate falls to zero as (1 - progress) ** power, as in nnU-Net (Isensee et al. 2021)."""

    power: float = 0.9

    def rate(self, progress: float, epoch: int) -> float:
        """Return the share of the initial rate."""
        return float((1 - progress) ** self.power)


@dataclass(frozen=True)
class Optimiser:
    """An optimiser, its initial learning rate and the schedule by which the rate falls.

    ``l2`` times the weights is added to their gradient; AdamW decays the weights directly instead. Biases are left out,
    and so are the scale and offset of normalisation, unless ``l2_of_normalisation`` includes them as MATLAB does.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = 1e-3
    momentum: float = 0.0
    l2: float = 0.0
    l2_of_normalisation: bool = False
    schedule: Step | Polynomial = Polynomial()

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of a network's parameters."""
        normalising = {id(p) for m in network.modules() if isinstance(m, NORMALISATIONS) for p in m.parameters()}

        def shrinks(p: nn.Parameter) -> bool:
            return p.ndim > 1 or (self.l2_of_normalisation and id(p) in normalising)

        groups = [
            {"params": [p for p in network.parameters() if shrinks(p)], "weight_decay": self.l2},
            {"params": [p for p in network.parameters() if not shrinks(p)], "weight_decay": 0.0},
        ]
        match self.name:
            case "sgd":
                return torch.optim.SGD(groups, self.rate, momentum=self.momentum)
            case "adam":
                return torch.optim.Adam(groups, self.rate)
            case "adamw":
                return torch.optim.AdamW(groups, self.rate)

    def set_rate(self, optimiser: torch.optim.Optimizer, progress: float, epoch: int) -> float:
        """Set and return the learning rate at a progress (share of the phase's steps done) and an epoch (from 0)."""
        rate = self.rate * self.schedule.rate(progress, epoch)
        for group in optimiser.param_groups:
            group["lr"] = rate
        return rate


def saood(rate: float) -> Optimiser:
    """Adam, x0.95 every 12 epochs, L2 1e-4: the published script; rates in Saood & Hatem 2021, table 2."""
    return Optimiser("adam", rate, l2=1e-4, l2_of_normalisation=True, schedule=Step(0.95, 12))


SHIVDEO = Optimiser("adam", 1e-3, schedule=Step(1 / 3, 5))
"""Shivdeo et al. 2021, sections 4.1 and 4.2: the rate falls to 1/3 every 5 epochs."""

ALALWAN = Optimiser("sgd", 0.01, momentum=0.5, schedule=Step(0.5, 10))
"""Alalwan et al. 2021, section 4.3: momentum 0.5, halved every 10 epochs."""

DEFAULT = Optimiser("adamw", 1e-3, l2=1e-2, schedule=Polynomial())
