"""Shivdeo et al. 2021: Xception-CBAM U-Net on slices against V-Net on stacks (table 2, section 5.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from training.datasets.infection_slices import ESTIMATED_HU, NO_TRUE_STACKS
from training.datasets.sample import INFECTION
from training.experiment import Experiment, Published, Short
from training.fit import schedules
from training.fit.recipe import Recipe
from training.prepare.examples import Stacking
from training.prepare.preprocess import Preprocess
from training.prepare.splits import KFold
from training.prepare.target import Target

THRESHOLD = 0.2
"""Section 5.2."""

STACK_SLICES = 32
OVERLAP_FACTORS = (0.0, 0.375, 0.625)
"""In training; stacks follow each other in inference (section 4.2)."""


SLICES = Preprocess(size=(512, 512))
DICOM = Preprocess(size=(512, 512), window_hu="header")
"""The paper's own preprocessing: the window that the DICOM header names (section 3)."""

BATCH = "batch size and length are ours, the paper names neither"
NETWORK_DIFFERS = {
    "xception-unet": "",
    "vnet": "V-Net of 45.6 M parameters, the paper's has 206 M; ",
    "vnet-wide": "overlap factor of section 5.5's best, table 2 names none; ",
}
SHORT_2D = Short(epochs=16, steps_per_epoch=20, size=(128, 128))
SHORT_3D = Short(epochs=5, steps_per_epoch=20, size=(64, 64))


def experiment(name: str, network: str, stacking: Stacking, place: str, *published: Published) -> Experiment:
    """Return one training of the paper on the slices at hand; ``place`` is where the paper has it."""
    is_2d = stacking.slices == 1
    return Experiment(
        name=name,
        paper=f"Shivdeo et al. 2021, {place}",
        data=("infection-slices",),
        target=Target.of(INFECTION),
        preprocess=SLICES,
        network=network,
        stacking=stacking,
        recipe=Recipe(loss="dice", batch_size=8 if is_2d else 1, epochs=30, optimiser=schedules.SHIVDEO),
        split=KFold(folds=3, validation=0.12),
        short=SHORT_2D if is_2d else SHORT_3D,
        threshold=THRESHOLD,
        published=published,
        differs=f"{NETWORK_DIFFERS[network]}window of Wu et al., as the slices at hand have no DICOM header; {BATCH}",
        data_differ=f"9 patients, three-fold; {ESTIMATED_HU}" + ("" if is_2d else f"; {NO_TRUE_STACKS}"),
    )


def on_dicom(original: Experiment) -> Experiment:
    """Return an experiment for one's own CT series and DICOM SEG, in the window of their headers."""
    return replace(
        original,
        name=f"{original.name}-dicom",
        data=("dicom",),
        preprocess=DICOM,
        differs=f"{NETWORK_DIFFERS[original.network]}your own patients, three-fold; {BATCH}",
        data_differ="",
    )


def experiments() -> Iterator[Experiment]:
    """Yield the 2D network, the 3D one at each overlap factor, the one of 206 M parameters, and both on DICOM."""
    # Table 1 counts 36 test scans, section 5.1 says 32.
    dice = f"{INFECTION}/dice_per_case"
    flat = experiment("shivdeo-2d", "xception-unet", Stacking(1), "table 2", Published(dice, 0.73, "table 2"))
    yield flat
    for overlap_factor in OVERLAP_FACTORS:
        stacking = Stacking(STACK_SLICES, overlap_factor)
        deep = experiment(f"shivdeo-3d-overlap-{overlap_factor:g}", "vnet", stacking, "section 5.5")
        yield deep
    yield experiment("shivdeo-3d-206m", "vnet-wide", stacking, "table 2", Published(dice, 0.79, "table 2"))
    yield on_dicom(flat)
    yield on_dicom(replace(deep, name="shivdeo-3d"))


EXPERIMENTS = tuple(experiments())
