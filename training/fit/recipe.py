"""How a network is trained, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from training.fit.schedules import DEFAULT, Optimiser
from training.prepare import augment
from training.prepare.augment import Augmentation


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides network, data and seed.

    Parameters
    ----------
    loss : str
        A key of ``training.fit.losses.LOSSES``.
    class_weights : tuple of float, "median_frequency" or None
        One per class, the background first, or computed on the training split.
    batch_size : int
        Examples per step, over all processes together.
    epochs : int
        Number of epochs; each ends with a validation.
    steps_per_epoch : int or None
        None means as many as there are full batches of examples; the next epoch begins with the examples left over.
    phases : tuple of int
        Epochs of each phase before the last one, which has ``epochs``. A phase starts from the best weights of the
        one before, with learning rate and optimiser reset: Alalwan's "cascaded training" has (100,).
    stop_after : int or None
        Epochs without a better validation after which a phase ends early.
    keep : {"last", "best"}
        Which weights count: those of the last epoch, or those with the best validation Dice.
    clip_norm : float or None
        Largest norm of the gradient.
    population_statistics : bool
        Whether batch normalisation ends, after the last epoch, with mean and variance over all training examples, as
        MATLAB's does, instead of a running mean over the last batches, which is noisy where batches are small. The best
        epoch keeps the running ones, with which it was validated.
    """

    loss: str
    batch_size: int
    epochs: int
    optimiser: Optimiser = DEFAULT
    loss_arguments: dict[str, float] = field(default_factory=dict)
    class_weights: tuple[float, ...] | Literal["median_frequency"] | None = None
    augmentation: Augmentation = augment.NONE
    steps_per_epoch: int | None = None
    phases: tuple[int, ...] = ()
    stop_after: int | None = None
    keep: Literal["last", "best"] = "best"
    clip_norm: float | None = None
    population_statistics: bool = False
