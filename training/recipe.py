"""How a network is trained, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from training import augment
from training.augment import Augmentation
from training.schedules import DEFAULT, Optimiser


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides network, data and seed.

    Parameters
    ----------
    loss : str
        A key of ``training.losses.LOSSES``.
    class_weights : tuple of float, "median_frequency" or None
        One a class, the background first, or computed on the training split.
    batch_size : int
        Examples a step, over all processes together.
    epochs : int
        Validations.
    steps_per_epoch : int or None
        None means as many as the examples fill; what one epoch leaves over the next begins with.
    phases : tuple of int
        Epochs of earlier phases, each of which starts from the best weights of the one before, with
        learning rate and optimiser anew: Alalwan's "cascaded training" is (100,), then ``epochs``.
    stop_after : int or None
        Epochs without a better validation after which training stops.
    keep : {"last", "best"}
        Which weights count: those of the last epoch, or those with the best validation Dice.
    clip_norm : float or None
        Largest norm of the gradient.
    population_statistics : bool
        Whether batch normalisation ends with mean and variance over all training examples, as MATLAB's
        does, instead of a running mean over the last batches, which is noisy where batches are small.
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
