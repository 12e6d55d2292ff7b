"""The worker's synthetic chests, whose HU and masks are both exact; the demo's chest is not among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.sample import INFECTION, LEFT_LUNG, RIGHT_LUNG, Sample
from worker.findings import LEFT, RIGHT
from worker.phantom.chest import build_chest

SEEDS = range(101, 109)
SLICES = 16


def read(_folder: Path) -> Iterator[Sample]:
    """Yield one sample for every seed; they are made, not read."""
    for seed in SEEDS:
        chest = build_chest(seed, SLICES)
        yield Sample(
            name=f"phantom-{seed}",
            source="phantom",
            patient=f"phantom-{seed}",
            scan=f"phantom-{seed}",
            position=0,
            image=chest.hu,
            intensity="hu",
            masks={
                LEFT_LUNG: chest.lungs == LEFT,
                RIGHT_LUNG: chest.lungs == RIGHT,
                INFECTION: chest.infection,
            },
            spacing_mm=chest.spacing_mm,
        )
