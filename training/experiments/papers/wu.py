"""Wu et al. 2020: lungs and infection by 2D and 2.5D U-Net (table 1).

The paper names no learning rate, batch size, loss, augmentation or length; those here are ours. The table's other rows,
by thresholds and with the classifier, and the figures of PoIR are measured by ``wu-thresholds`` and
``wu-classifier-...``.
"""

from __future__ import annotations

from collections.abc import Iterator

from training.datasets.infection_slices import ESTIMATED_HU, NO_TRUE_STACKS
from training.datasets.sample import INFECTION, LUNG
from training.experiment import Experiment, Published, Short
from training.fit.recipe import Recipe
from training.fit.schedules import Optimiser
from training.prepare import augment
from training.prepare.examples import Stacking
from training.prepare.preprocess import WU_WINDOW_HU, Preprocess
from training.prepare.splits import KFold
from training.prepare.target import Target

STACKING = {"unet": Stacking(1), "unet-2.5d": Stacking(3, 2 / 3)}

MEAN_DICE = {
    (LUNG, "unet"): 0.972,
    (LUNG, "unet-2.5d"): 0.967,
    (INFECTION, "unet"): 0.684,
    (INFECTION, "unet-2.5d"): 0.693,
}
"""Table 1."""


def experiments() -> Iterator[Experiment]:
    """Yield the experiments of both networks on both structures."""
    for (structure, network), dice in MEAN_DICE.items():
        yield Experiment(
            name=f"wu-{structure}-{network}",
            paper="Wu et al. 2020, table 1",
            data=("infection-slices",),
            target=Target.of(structure),
            preprocess=Preprocess(size=(512, 512), window_hu=WU_WINDOW_HU, keep_aspect=True),
            network=network,
            stacking=STACKING[network],
            recipe=Recipe(
                loss="dice_cross_entropy",
                batch_size=8,
                epochs=60,
                optimiser=Optimiser("adamw", 3e-4, l2=1e-2),
                augmentation=augment.STRONG,
                stop_after=15,
                clip_norm=10.0,
            ),
            split=KFold(folds=3, validation=0.12),
            # Lungs are learned in minutes, lesions are not.
            short=Short(epochs=6 if structure == LUNG else 20, steps_per_epoch=40, size=(128, 128)),
            published=(Published(f"{structure}/dice_per_case", dice, "table 1"),),
            differs="rate, batch size, loss, augmentation and length are ours, the paper names none",
            data_differ=f"9 patients, three-fold; {ESTIMATED_HU}"
            + (f"; {NO_TRUE_STACKS}" if network == "unet-2.5d" else ""),
        )


EXPERIMENTS = tuple(experiments())
