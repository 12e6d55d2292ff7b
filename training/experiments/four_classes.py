"""Ground-glass, consolidation and effusion told apart on the 100 slices, by the shipped network's recipe."""

from __future__ import annotations

from dataclasses import replace

from training.datasets.sample import CONSOLIDATION, GROUND_GLASS_OPACITY, PLEURAL_EFFUSION
from training.experiment import Published
from training.experiments.shipped import FOLDS
from training.splits import KFold
from training.target import Target

GOAL = "goal"

FOUR_CLASSES = replace(
    FOLDS,
    name="chest-four-classes",
    paper="ours, on the slices of Saood & Hatem 2021",
    data=("medseg-chest",),
    target=Target.of(GROUND_GLASS_OPACITY, CONSOLIDATION, PLEURAL_EFFUSION),
    recipe=replace(FOLDS.recipe, epochs=10, augmentation=replace(FOLDS.recipe.augmentation, paste=None)),
    split=KFold(folds=5),
    published=(
        Published(f"{GROUND_GLASS_OPACITY}/dice_global", 0.60, GOAL),
        Published(f"{CONSOLIDATION}/dice_global", 0.62, GOAL),
        Published(f"{PLEURAL_EFFUSION}/dice_global", 0.30, GOAL),
    ),
    differs="whole chests rather than lungs alone; split by slice, as the set has no identities",
)

EXPERIMENTS = (FOUR_CLASSES,)
