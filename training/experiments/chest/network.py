"""The network that Hilum ships: lung, infection and effusion in one, small enough to train on two CPU cores.

It is from no paper: it is Wu et al.'s U-Net, but narrower and on blocks of 2 x 2 pixels.
"""

from __future__ import annotations

from dataclasses import replace

from training.datasets.sample import INFECTION, LUNG, PLEURAL_EFFUSION
from training.experiment import Experiment, Published, Short
from training.fit.recipe import Recipe
from training.fit.schedules import Optimiser
from training.prepare.augment import Augmentation
from training.prepare.chest_target import ChestTarget
from training.prepare.examples import Stacking
from training.prepare.opacities import Opacities
from training.prepare.preprocess import WU_WINDOW_HU, Preprocess
from training.prepare.splits import Holdout, Named, NamedFolds
from training.prepare.target import TargetClass
from worker.models.store import CHEST_WEIGHTS

WINDOWS_AND_KERNELS = Augmentation(
    paste=(2, 1),
    grow=Opacities(infected=2, lung=1),
    flip_columns=0.5,
    flip_rows=0.05,
    rotate_degrees=12,
    shear_degrees=4,
    scale=(0.65, 1.35),
    shift=0.1,
    thickest_mm=12.0,
    gamma=0.35,
    contrast=0.25,
    brightness=0.08,
    noise=0.05,
    blur_sigma=1.2,
    coarse=1.0,
    erase=0.1,
)
"""Wide enough for HU that were only estimated, and for the kernels, doses and fields of view of other scans."""

FOLDS = Experiment(
    name="chest-folds",
    paper="ours, four folds by patient",
    data=("infection-slices", "medseg-chest", "lung-slices", "ct-studies", "phantom"),
    target=ChestTarget(tuple(TargetClass(name, (name,)) for name in (LUNG, INFECTION, PLEURAL_EFFUSION))),
    preprocess=Preprocess(size=(224, 224), window_hu=WU_WINDOW_HU, keep_aspect=True, crop_to_body=True),
    network="unet",
    arguments={"classes": 4, "width": 24, "batch_norm": True, "block": 2},
    recipe=Recipe(
        loss="dice_cross_entropy",
        batch_size=8,
        epochs=32,
        steps_per_epoch=100,
        optimiser=Optimiser("adamw", 2e-3, l2=1e-2),
        augmentation=WINDOWS_AND_KERNELS,
        keep="last",
        clip_norm=5.0,
    ),
    # In each group: patients with little and with much infection, and a study in true HU.
    split=NamedFolds(
        (
            ("coronacases_003", "coronacases_006", "covid-p001"),
            ("coronacases_001", "radiopaedia_36", "cap-001"),
            ("coronacases_002", "coronacases_007", "normal-001"),
            ("coronacases_004", "coronacases_005", "radiopaedia_27", "petct-a0002-b40f"),
        )
    ),
    short=Short(epochs=2, steps_per_epoch=20, size=(128, 128)),
    may_lack=(PLEURAL_EFFUSION,),  # hardly any patient has it
    published=(
        Published(f"{INFECTION}/dice_per_case", 0.757, "Wu et al. 2020, table 1"),
        Published(f"{INFECTION}/dice_global", 0.777, "Ma et al. 2021, nnU-Net"),
    ),
)

FOLDS_2D = replace(
    FOLDS,
    name="chest-folds-2d",
    recipe=replace(FOLDS.recipe, epochs=16),
    differs="half as long as chest-folds, to try recipes and layouts",
)

FOLDS_25D = replace(
    FOLDS_2D,
    name="chest-folds-2.5d",
    network="unet-2.5d",
    stacking=Stacking(3, 2 / 3),
    differs="as chest-folds-2d, from three neighbouring slices; single images are repeated",
)

FOLDS_3D = replace(
    FOLDS_2D,
    name="chest-folds-3d",
    data=("infection-slices", "ct-studies", "phantom"),
    preprocess=replace(FOLDS.preprocess, size=(112, 112)),
    network="vnet",
    arguments={"classes": 4, "dropout": 0.0, "width": 8},
    stacking=Stacking(16, 0.5),
    recipe=replace(
        FOLDS.recipe,
        batch_size=1,
        epochs=10,
        optimiser=Optimiser("adamw", 5e-3, l2=1e-2),
        augmentation=replace(WINDOWS_AND_KERNELS, paste=None),  # a batch of one has no other stack to paste from
    ),
    short=Short(epochs=2, steps_per_epoch=10, size=(64, 64)),
    differs="narrow V-Net on stacks of 16 slices at 112x112, as long as chest-folds-2d; without single images",
)

CHEST = replace(
    FOLDS,
    name="shipped-chest",
    paper="ours, the network that Hilum ships",
    split=Named(("phantom-107",), ("phantom-108",)),
    differs="trained on all patients; its own test is one phantom, and chest-folds tells how good it is",
)

OWN = replace(
    FOLDS,
    name="chest-own",
    paper="ours, the shipped network fine-tuned on your labels",
    data=("labels",),
    recipe=replace(FOLDS.recipe, epochs=8, optimiser=Optimiser("adamw", 5e-4, l2=1e-2), keep="best"),
    as_worker=True,
    pretrained=CHEST_WEIGHTS,
    split=Holdout(validation=0.1, test=0.2),
    published=(),
    differs="a tenth of your patients decides which epoch is kept, a fifth judges",
)

EXPERIMENTS = (FOLDS, FOLDS_2D, FOLDS_25D, FOLDS_3D, CHEST, OWN)
