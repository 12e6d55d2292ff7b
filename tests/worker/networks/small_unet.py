"""The card of a small U-Net."""

from __future__ import annotations

from worker.networks.card import Card

CARD = Card(
    network="unet",
    arguments={"width": 4, "depth": 2, "batch_norm": True, "classes": 2},
    classes=("background", "infection"),
    window_hu=(-1200.0, 600.0),
    spacing_mm=(None, 0.7, 0.7),
    image_size=None,
    stack_slices=1,
    threshold=0.5,
    training_data="none",
    commit="0000000",
    licence="Apache-2.0",
    metrics={"dice": 0.5},
)
