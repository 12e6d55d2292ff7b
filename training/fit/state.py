"""The state of a training that must survive a kill: everything that decides the next step."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.files import refusing_damaged, replace_file


@dataclass
class Progress:
    """How far a training has come.

    The state of the random numbers is not here because there is none: the order of the examples, their
    augmentation and dropout are drawn from (seed, phase, step), see ``training.prepare.batches``.
    """

    phase: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_dice: float = -1.0
    best_epoch: int = -1
    finished: bool = False
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """The commits whose code trained the network, in their order."""
    begun_as: dict[str, Any] = field(default_factory=dict)
    """The claim of the run and the split's patients when the training began."""


def save_state(path: Path, progress: Progress, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write the state, whole or not at all."""
    content = {
        "progress": asdict(progress),
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    replace_file(path, lambda partial: torch.save(content, partial))


def load_state(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> Progress:
    """Load a saved state into network and optimiser, and return its progress.

    Raises
    ------
    SettingsError
        When the file is damaged.
    """
    with refusing_damaged(path, f"remove {path.parent}, and the same command trains from the first step"):
        content = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(content["network"])
    optimiser.load_state_dict(content["optimiser"])
    return Progress(**content["progress"])
