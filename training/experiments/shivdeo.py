"""Shivdeo et al. 2021: Xception-CBAM U-Net on slices against V-Net on stacks (table 2, section 5.5)."""

from __future__ import annotations

from collections.abc import Iterator

from training import schedules
from training.datasets.sample import INFECTION
from training.examples import Stacking
from training.experiment import Experiment, Published, Short
from training.preprocess import Preprocess
from training.recipe import Recipe
from training.splits import KFold
from training.target import Target

THRESHOLD = 0.2
"""Section 5.2."""

STACK_SLICES = 32
OVERLAP_FACTORS = (0.0, 0.375, 0.625)
"""In training; stacks follow each other in inference (section 4.2)."""


def experiment(
    name: str, network: str, stacking: Stacking, batch_size: int, short: Short, *published: Published
) -> Experiment:
    """Return one training of the paper."""
    return Experiment(
        name=name,
        paper="Shivdeo et al. 2021, table 2" if published else "Shivdeo et al. 2021, section 5.5",
        data=("infection-slices",),
        target=Target.of(INFECTION),
        preprocess=Preprocess(size=(512, 512)),
        network=network,
        stacking=stacking,
        recipe=Recipe(loss="dice", batch_size=batch_size, epochs=30, optimiser=schedules.SHIVDEO),
        split=KFold(folds=3, validation=0.12),
        short=short,
        threshold=THRESHOLD,
        published=published,
        differs=(
            "9 patients, three-fold; window of Wu et al., as these slices have no DICOM header; "
            "batch size and length are ours, the paper names neither"
        ),
    )


def experiments() -> Iterator[Experiment]:
    """Yield the 2D network, the 3D one at each overlap factor, and the 3D one of 206 M parameters."""
    # Table 1 counts 36 test scans, section 5.1 says 32.
    yield experiment(
        "shivdeo-2d",
        "xception-unet",
        Stacking(1),
        8,
        Short(epochs=4, steps_per_epoch=20, size=(128, 128)),
        Published(f"{INFECTION}/dice_per_case", 0.73, "table 2"),
    )
    short_3d = Short(epochs=4, steps_per_epoch=10, size=(64, 64))
    for overlap_factor in OVERLAP_FACTORS:
        figures = (Published(f"{INFECTION}/dice_per_case", 0.79, "table 2"),) if overlap_factor == 0.625 else ()
        yield experiment(
            f"shivdeo-3d-overlap-{overlap_factor:g}",
            "vnet",
            Stacking(STACK_SLICES, overlap_factor),
            1,
            short_3d,
            *figures,
        )
    yield experiment("shivdeo-3d-206m", "vnet-wide", Stacking(STACK_SLICES, 0.625), 1, short_3d)


EXPERIMENTS = tuple(experiments())
