"""Alalwan et al. 2021: 3D-DenseUNet-569, with separable and with standard convolutions, on chest data.

The paper segments the liver and its tumours; here the lung takes the liver's place and the infection the
tumours', as its conclusion proposes. They take over the class weights too.
"""

from __future__ import annotations

from collections.abc import Iterator

from training.datasets.infection_slices import ESTIMATED_HU, NO_TRUE_STACKS
from training.datasets.sample import INFECTION, LUNG
from training.experiment import Experiment, Published, Short
from training.fit import schedules
from training.fit.recipe import Recipe
from training.prepare import augment
from training.prepare.examples import Stacking
from training.prepare.preprocess import WU_WINDOW_HU, Preprocess
from training.prepare.splits import KFold
from training.prepare.target import Target

CLASS_WEIGHTS = (0.2, 1.2, 2.2)
"""Section 3.1: background, liver, lesion."""


def experiments() -> Iterator[Experiment]:
    """Yield the network with either kind of convolution."""
    for kind, separable in (("separable", True), ("standard", False)):
        yield Experiment(
            name=f"alalwan-{kind}",
            paper="Alalwan et al. 2021, table 1" if separable else "Alalwan et al. 2021, tables 2 and 3",
            data=("infection-slices",),
            target=Target.of(LUNG, INFECTION),
            preprocess=Preprocess(size=(224, 224), window_hu=WU_WINDOW_HU),
            network="dense-unet-569",
            arguments={"classes": 3, "separable": separable},
            stacking=Stacking(12, 0.5),
            recipe=Recipe(
                loss="cross_entropy",
                class_weights=CLASS_WEIGHTS,
                batch_size=1,
                phases=(100,),
                epochs=1000,
                steps_per_epoch=10,
                optimiser=schedules.ALALWAN,
                augmentation=augment.ALALWAN,
            ),
            split=KFold(folds=3, validation=0.12),
            short=Short(epochs=10, steps_per_epoch=10, size=(96, 96), phases=(3,)),
            published=tuple(figures()) if separable else (),
            differs=(
                "lung and infection for liver and tumour of LiTS; intensities cut to [-1200, 600] HU, not [-200, 250], "
                "which would show no lung; the lung is what is not infected; stacks overlap by half, a batch is one of "
                "them, the paper names neither"
            ),
            data_differ=f"9 patients, three-fold; {ESTIMATED_HU}; {NO_TRUE_STACKS}",
        )


def figures() -> Iterator[Published]:
    """Yield the figures of table 1, of the liver and of the tumours, as those of lung and infection."""
    for structure, per_case, overall in ((LUNG, 0.962, 0.967), (INFECTION, 0.696, 0.807)):
        organ = "liver" if structure == LUNG else "tumour"
        yield Published(f"{structure}/dice_per_case", per_case, f"table 1, {organ}")
        yield Published(f"{structure}/dice_global", overall, f"table 1, {organ}")


EXPERIMENTS = tuple(experiments())
