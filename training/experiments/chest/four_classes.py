"""Tell ground glass, consolidation and effusion apart on the 100 slices, with half of the shipped network's epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.datasets.sample import CONSOLIDATION, GROUND_GLASS_OPACITY, LUNG, PLEURAL_EFFUSION
from training.experiment import Published
from training.experiments.chest.network import FOLDS_2D, WINDOWS_AND_KERNELS
from training.prepare.splits import KFold, Named
from training.prepare.target import Target

GOAL = "goal"

PRETRAINED = replace(
    FOLDS_2D,
    name="chest-without-medseg",
    paper="ours, what chest-four-classes begins with",
    data=tuple(name for name in FOLDS_2D.data if name != "medseg-chest"),
    split=Named(("phantom-107",), ("phantom-108",)),
    published=(),
    differs="trained without the slices that chest-four-classes is judged on",
)

FOUR_CLASSES = replace(
    FOLDS_2D,
    name="chest-four-classes",
    paper="ours, on the slices of Saood & Hatem 2021",
    data=("medseg-chest",),
    target=Target.of(LUNG, GROUND_GLASS_OPACITY, CONSOLIDATION, PLEURAL_EFFUSION),
    arguments={**FOLDS_2D.arguments, "classes": 5},
    recipe=replace(
        FOLDS_2D.recipe,
        # Rarer classes weigh more.
        class_weights=(1.0, 1.0, 1.0, 1.5, 3.0),
        # Pasting and growing opacities know infection of one kind only.
        augmentation=replace(WINDOWS_AND_KERNELS, paste=None, grow=None),
    ),
    pretrained=Path(PRETRAINED.name, "split-0", "weights.safetensors"),
    split=KFold(folds=5),
    published=(
        Published(f"{GROUND_GLASS_OPACITY}/dice_global", 0.60, GOAL),
        Published(f"{CONSOLIDATION}/dice_global", 0.62, GOAL),
        Published(f"{PLEURAL_EFFUSION}/dice_global", 0.30, GOAL),
    ),
    differs="whole chests rather than lungs alone, and lung as a class of its own",
    data_differ="split by slice, as the set has no identities",
)

WITHIN_LUNGS = replace(
    FOUR_CLASSES,
    name="chest-four-classes-lungs",
    target=Target.of(GROUND_GLASS_OPACITY, CONSOLIDATION, PLEURAL_EFFUSION),
    arguments=FOLDS_2D.arguments,
    preprocess=replace(FOLDS_2D.preprocess, within_lungs=True),
    recipe=replace(FOUR_CLASSES.recipe, class_weights=(1.0, 1.0, 1.5, 3.0)),
    differs="blackened outside the annotated lungs as in the paper, which hold most of the effusion: a worker has no "
    "such mask; the folds of chest-four-classes",
    data_differ="98 of the 100 slices, in estimated HU",
)

EXPERIMENTS = (PRETRAINED, FOUR_CLASSES, WITHIN_LUNGS)
