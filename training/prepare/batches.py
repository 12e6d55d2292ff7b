"""Which examples a step sees, and how they are augmented: a function of the seed and the step alone.

So training can be interrupted anywhere and continued exactly, without a saved random state: the step's number suffices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.prepare.augment import Augmentation
from training.prepare.examples import Example


def seed_from(*numbers: int) -> int:
    """Return one seed for torch from several numbers; neighbouring numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def choose(examples: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Return the indices of a step's examples: the next ones in an endless sequence of shuffled passes over all."""
    places = range(step * batch_size, (step + 1) * batch_size)
    return [int(_pass_order(examples, seed, place // examples)[place % examples]) for place in places]


@lru_cache(maxsize=4)
def _pass_order(examples: int, seed: int, number: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, number)).permutation(examples)


def load_batch(
    examples: Sequence[Example], augmentation: Augmentation, device: torch.device, seed: int
) -> tuple[Tensor, Tensor]:
    """Return augmented images, float, and labels, uint8, each (n, slices, rows, columns)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [augmentation.thicken(example, generator) for example in examples]
    images = torch.from_numpy(np.stack([example.image() for example in chosen])).to(device).float()
    labels = torch.from_numpy(np.stack([example.labels() for example in chosen])).to(device)
    return augmentation(images, labels, generator)
