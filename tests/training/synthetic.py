"""Small images with bright discs, and a network and a training on them that takes a second."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from training.datasets.sample import INFECTION, LUNG, Sample
from training.evaluate.compare import foreground_dice
from training.fit.loop import Training, Validate
from training.fit.losses import Loss, build_loss
from training.fit.processes import Processes
from training.fit.recipe import Recipe
from training.fit.schedules import Optimiser
from training.prepare.augment import Augmentation
from training.prepare.examples import Stacking, cut
from training.prepare.prepared import Prepared, prepare
from training.prepare.preprocess import Preprocess
from training.prepare.target import Target
from training.reporter import Reporter
from worker.networks.network import SegmentationNetwork
from worker.networks.registry import build

SIZE = 32

RECIPE = Recipe(
    loss="dice_cross_entropy",
    batch_size=4,
    epochs=3,
    optimiser=Optimiser("adam", 1e-2),
    augmentation=Augmentation(flip_rows=0.5, rotate_degrees=10, noise=0.05, contrast=0.2),
)


def disc_sample(number: int, patient: str | None = None, slices: int = 1) -> Sample:
    """Return a noisy image with a bright disc (the infection) within a larger gray disc (the lung)."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE]
    center = random.uniform(10, SIZE - 10, size=2)
    distance = np.hypot(y - center[0], x - center[1])
    image = np.where(distance < 4, 200, np.where(distance < 9, 120, 40)) + random.normal(0, 10, (SIZE, SIZE))
    stack = np.repeat(np.clip(image, 0, 255).astype(np.uint8)[None], slices, axis=0)
    return Sample(
        name=f"disc-{number}",
        source="discs",
        patient=patient,
        scan=f"disc-{number}",
        position=0,
        image=stack,
        intensity="gray",
        masks={
            LUNG: np.repeat((distance < 9)[None], slices, axis=0),
            INFECTION: np.repeat((distance < 4)[None], slices, axis=0),
        },
    )


def discs(folder: Path, count: int = 12, slices: int = 1) -> list[Prepared]:
    """Return prepared discs."""
    samples = (disc_sample(i, slices=slices) for i in range(count))
    return prepare(samples, Preprocess((SIZE, SIZE)), Target.of(INFECTION), folder)


def tiny_network(classes: int = 2, batch_norm: bool = True, dropout: float = 0.1) -> SegmentationNetwork:
    """Return a small U-Net of width 4 and depth 1."""
    torch.manual_seed(0)
    arguments = {"classes": classes, "width": 4, "depth": 1, "batch_norm": batch_norm, "dropout": dropout}
    network = build("unet", arguments)
    assert isinstance(network, SegmentationNetwork)
    return network


def raise_interrupt() -> None:
    raise KeyboardInterrupt


class QuietReporter(Reporter):
    """A reporter without visible output, which can interrupt the training at a step, before this step is saved."""

    def __init__(self, at_step: int | None = None, interruption: Callable[[], object] = raise_interrupt) -> None:
        super().__init__(Console(file=io.StringIO()), "quiet")
        self.at_step = at_step
        self.interruption = interruption

    def step(self, done: int) -> None:
        super().step(done)
        if done == self.at_step:
            self.interruption()


def train_discs(
    folder: Path,
    recipe: Recipe = RECIPE,
    reporter: Reporter | None = None,
    processes: Processes | None = None,
    validate: Validate | None = None,
    loss: Loss | None = None,
    network: SegmentationNetwork | None = None,
) -> Training:
    """Train on discs, or continue a training in the folder; the state is saved after every step."""
    torch.set_num_threads(1)
    prepared = discs(folder / "prepared")
    validation = prepared[:3]
    training = Training(
        network or tiny_network(),
        cut(prepared[3:], Stacking()),
        recipe,
        loss or build_loss(recipe.loss, **recipe.loss_arguments),
        validate or (lambda network: foreground_dice(network, Stacking(), validation, 0.5)),
        folder,
        seed=7,
        processes=processes or Processes(0, 1, torch.device("cpu")),
        reporter=reporter or QuietReporter(),
        save_seconds=0.0,
    )
    training.run()
    return training
