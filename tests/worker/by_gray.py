"""An engine that finds lung and infection by gray values alone, and a card for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.chest_network import CLASSES
from worker.networks.card import Card

CARD = Card(
    network="unet",
    arguments={"classes": 4, "width": 1, "depth": 1},
    classes=CLASSES,
    window_hu=(-1200.0, 600.0),
    spacing_mm=(None, None, None),
    image_size=(112, 112),
    stack_slices=1,
    threshold=0.5,
    training_data="none",
    commit="none",
    licence="none",
    metrics={},
)


class ByGray:
    """An engine that finds lung from ``lung_from`` to 0.35 of the gray scale, and infection from 0.35 to 0.43.

    With the window of ``CARD`` this is lung from -930 HU (by default) to -570 HU, and infection from -570 to -426 HU.
    """

    name = "by-gray"

    def __init__(self, lung_from: float = 0.15) -> None:
        self.lung_from = lung_from
        self.seen: list[NDArray[np.float32]] = []

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seen.append(batch)
        gray = batch[:, 0]
        lung, infection = (gray > self.lung_from) & (gray <= 0.35), (gray > 0.35) & (gray < 0.43)
        return 20 * np.stack([~(lung | infection), lung, infection, np.zeros_like(lung)], axis=1).astype(np.float32)
