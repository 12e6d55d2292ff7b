"""Saood & Hatem 2021: U-Net against SegNet on 100 slices, binary and by kind of lesion.

The recipe is that of the published script: Adam, rate x0.95 every 12 epochs, L2 1e-4, 160 epochs, mirroring
and shear, cross-entropy with median-frequency weights. MATLAB divides the loss by the sum of the class weights in the
batch; so do we. MATLAB's networks read gray levels less their mean; so does our U-Net. SegNet does not need this: its
first normalisation undoes any scale of its input.

MATLAB keeps the network of the last epoch, and takes the statistics of its batch normalisation from the whole training
set. With class weights this large, the share of false positives swings from one epoch to the next, so we keep the epoch
that was best on the validation part, and test the last one too, as MATLAB keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Literal

from training.datasets.sample import CONSOLIDATION, GROUND_GLASS_OPACITY, PLEURAL_EFFUSION
from training.experiment import LAST_EPOCH, Experiment, Published, Short
from training.fit import schedules
from training.fit.recipe import Recipe
from training.prepare import augment
from training.prepare.preprocess import Preprocess
from training.prepare.splits import Holdout, KFold, SplitRule
from training.prepare.target import Target, TargetClass

Net = Literal["segnet", "unet"]
Network = Literal["segnet", "unet", "segnet-vgg16"]
Task = Literal["binary", "multi"]

INFECTED = "infected_tissue"
TARGETS: Mapping[Task, Target] = {
    # The paper counts pleural effusion as infected tissue.
    "binary": Target((TargetClass(INFECTED, (GROUND_GLASS_OPACITY, CONSOLIDATION, PLEURAL_EFFUSION)),)),
    "multi": Target.of(GROUND_GLASS_OPACITY, CONSOLIDATION, PLEURAL_EFFUSION),
}

MEAN_GRAY = 0.0874
"""Mean gray, in [0, 1], of all hundred slices, which are black outside the lungs."""

ARGUMENTS: Mapping[Network, dict[str, Any]] = {
    "segnet": {},
    "unet": {"width": 64, "depth": 2, "dropout": 0.5, "up_relu": True, "mean": MEAN_GRAY, "scale": 255},
    "segnet-vgg16": {},
}

SETTINGS: Mapping[Net, tuple[tuple[float, int], ...]] = {
    "segnet": tuple((rate, batch) for rate in (1e-4, 1e-3, 3e-3) for batch in (4, 8, 12)),
    "unet": tuple((rate, batch) for rate in (1e-4, 5e-4, 1e-3) for batch in (2, 8, 12)),
}
"""Table 2: initial rate and batch size of the nine settings."""

BEST: Mapping[tuple[Net, Task], int] = {
    ("segnet", "binary"): 4,
    ("unet", "binary"): 4,
    ("segnet", "multi"): 7,
    ("unet", "multi"): 4,
}
"""The setting, counted from 1, that the paper chose for tables 4, 6 and 7."""

ACCURACY: Mapping[tuple[Net, Task], tuple[tuple[float, float], ...]] = {
    ("segnet", "binary"): (
        (0.934, 0.053), (0.919, 0.061), (0.919, 0.066), (0.954, 0.029), (0.940, 0.052),
        (0.947, 0.042), (0.941, 0.033), (0.935, 0.056), (0.948, 0.046),
    ),
    ("unet", "binary"): (
        (0.921, 0.056), (0.901, 0.067), (0.896, 0.069), (0.949, 0.043), (0.933, 0.057),
        (0.900, 0.069), (0.939, 0.059), (0.927, 0.061), (0.894, 0.070),
    ),
    ("segnet", "multi"): (
        (0.703, 0.063), (0.657, 0.067), (0.652, 0.086), (0.894, 0.068), (0.877, 0.071),
        (0.870, 0.072), (0.907, 0.060), (0.891, 0.069), (0.881, 0.075),
    ),
    ("unet", "multi"): (
        (0.860, 0.079), (0.852, 0.080), (0.844, 0.084), (0.908, 0.065), (0.880, 0.071),
        (0.881, 0.073), (0.903, 0.067), (0.883, 0.074), (0.899, 0.075),
    ),
}  # fmt: skip
"""Tables 3 and 5: mean and standard deviation of the accuracy of the test images, by setting."""

RECIPE_DIFFERS = (
    "the epoch that was best on the validation part is kept, while the published script keeps the last one "
    "(`last_epoch/...`); cross-entropy divided by the sum of the class weights, as MATLAB does, not as eq. 1 says; "
    "class weights from the training split alone"
)
NETWORK_DIFFERS: Mapping[Network, str] = {
    "segnet": "",
    "unet": "gray levels less the mean of all slices, while MATLAB takes that of the training split; ",
    "segnet-vgg16": "the encoder of the paper's text, while its figures are those of the published code's; ",
}

SHORT_EPOCHS = 8
LONGER_SHORT_FORMS: Mapping[tuple[Network, Task], int] = {("segnet-vgg16", "binary"): 20}
"""Epochs of short forms that stand for the full length, which takes the VGG16 encoder most of a day on a CPU."""

MEASURES = ("sensitivity", "specificity", "dice_global", "g_mean", "f2")

HOLDOUT_SCORES: Mapping[tuple[Net, Task], Mapping[str, tuple[float, ...]]] = {
    ("segnet", "binary"): {INFECTED: (0.956, 0.9542, 0.749, 0.955, 0.861)},
    ("unet", "binary"): {INFECTED: (0.964, 0.948, 0.733, 0.956, 0.856)},
    ("segnet", "multi"): {
        GROUND_GLASS_OPACITY: (0.638, 0.952, 0.479, 0.780, 0.562),
        CONSOLIDATION: (0.672, 0.965, 0.454, 0.806, 0.564),
        PLEURAL_EFFUSION: (0.574, 0.988, 0.121, 0.753, 0.231),
    },
    ("unet", "multi"): {
        GROUND_GLASS_OPACITY: (0.804, 0.930, 0.483, 0.865, 0.636),
        CONSOLIDATION: (0.694, 0.983, 0.597, 0.826, 0.652),
        PLEURAL_EFFUSION: (0.684, 0.993, 0.225, 0.824, 0.377),
    },
}
"""Tables 4 and 6, in the order of ``MEASURES``."""

FIVE_FOLD_SCORES: Mapping[tuple[Net, Task], Mapping[str, tuple[tuple[float, float | None], ...]]] = {
    ("segnet", "binary"): {
        # The paper's text that we have lacks the last standard deviation.
        INFECTED: ((0.947, 0.048), (0.945, 0.015), (0.703, 0.055), (0.945, 0.019), (0.829, None)),
    },
    ("unet", "binary"): {
        INFECTED: ((0.961, 0.033), (0.923, 0.018), (0.643, 0.058), (0.941, 0.014), (0.800, 0.033)),
    },
    ("segnet", "multi"): {
        GROUND_GLASS_OPACITY: (
            (0.653, 0.043), (0.927, 0.030), (0.425, 0.084), (0.778, 0.035), (0.535, 0.069),
        ),
        CONSOLIDATION: ((0.688, 0.072), (0.963, 0.004), (0.410, 0.081), (0.813, 0.043), (0.537, 0.073)),
        PLEURAL_EFFUSION: ((0.679, 0.270), (0.987, 0.006), (0.117, 0.068), (0.804, 0.167), (0.214, 0.110)),
    },
    ("unet", "multi"): {
        GROUND_GLASS_OPACITY: (
            (0.685, 0.130), (0.910, 0.045), (0.402, 0.144), (0.786, 0.083), (0.527, 0.135),
        ),
        CONSOLIDATION: ((0.666, 0.120), (0.973, 0.013), (0.458, 0.093), (0.801, 0.066), (0.550, 0.052)),
        PLEURAL_EFFUSION: ((0.632, 0.26), (0.991, 0.005), (0.152, 0.092), (0.777, 0.165), (0.250, 0.118)),
    },
}  # fmt: skip
"""Table 7: mean and standard deviation over five folds, in the order of ``MEASURES``."""


def experiment(
    name: str,
    net: Net,
    task: Task,
    setting: int,
    split: SplitRule,
    paper: str,
    published: Iterator[Published],
    network: Network,
) -> Experiment:
    """Return one training of the paper: ``network`` trained with a setting, counted from 1, of ``net``."""
    rate, batch_size = SETTINGS[net][setting - 1]
    target = TARGETS[task]
    return Experiment(
        name=name,
        paper=f"Saood & Hatem 2021, {paper}",
        data=("medseg100",),
        target=target,
        preprocess=Preprocess(size=(256, 256), window_hu=None),
        network=network,
        arguments={"classes": len(target.names), **ARGUMENTS[network]},
        recipe=Recipe(
            loss="balanced_cross_entropy",
            class_weights="median_frequency",
            batch_size=batch_size,
            epochs=160,
            optimiser=schedules.saood(rate),
            augmentation=augment.SAOOD,
            population_statistics=True,
        ),
        split=split,
        short=Short(epochs=LONGER_SHORT_FORMS.get((network, task), SHORT_EPOCHS)),
        published=tuple(chain.from_iterable((figure, of_last_epoch(figure)) for figure in published)),
        differs=NETWORK_DIFFERS[network] + RECIPE_DIFFERS,
        data_differ="split by slice, as the set has no identities",
    )


def of_last_epoch(figure: Published) -> Published:
    """Return a figure of the paper as one of our measures of the last epoch."""
    return replace(figure, measure=LAST_EPOCH + figure.measure)


def accuracies(net: Net, task: Task, setting: int, table: str) -> Iterator[Published]:
    """Yield the figures of tables 3 and 5."""
    mean, deviation = ACCURACY[net, task][setting - 1]
    yield Published("accuracy_per_image", mean, table)
    yield Published("accuracy_per_image_sd", deviation, table)


def holdout_figures(net: Net, task: Task, setting: int) -> Iterator[Published]:
    """Yield the figures of one setting: accuracies and, if the paper chose that setting, scores by class."""
    yield from accuracies(net, task, setting, "table 3" if task == "binary" else "table 5")
    if setting == BEST[net, task]:
        for name, scores in HOLDOUT_SCORES[net, task].items():
            for measure, score in zip(MEASURES, scores, strict=True):
                yield Published(f"{name}/{measure}", score, "table 4" if task == "binary" else "table 6")
        if (net, task) == ("segnet", "binary"):
            # The paper's discussion gives another figure than its table 4.
            yield Published(f"{INFECTED}/specificity", 0.945, 'text, "Binary classification problem"')


def five_fold_figures(net: Net, task: Task) -> Iterator[Published]:
    """Yield the figures of table 7."""
    for name, scores in FIVE_FOLD_SCORES[net, task].items():
        for measure, (mean, deviation) in zip(MEASURES, scores, strict=True):
            yield Published(f"{name}/{measure}", mean, "table 7", deviation)


def experiments() -> Iterator[Experiment]:
    """Yield the five-fold experiments and the nine settings of each network and task."""
    five_fold: tuple[tuple[Network, Net, Task], ...] = (
        *((net, net, task) for net, task in BEST),
        ("segnet-vgg16", "segnet", "binary"),
        ("segnet-vgg16", "segnet", "multi"),
    )
    for network, net, task in five_fold:
        yield experiment(
            f"saood-{network}-{task}",
            net,
            task,
            BEST[net, task],
            KFold(folds=5, validation=0.10),
            "table 7",
            five_fold_figures(net, task),
            network,
        )
    for net, task in BEST:
        for setting in range(1, 10):
            tables = "tables 3 and 4" if task == "binary" else "tables 5 and 6"
            yield experiment(
                f"saood-{net}-{task}-setting-{setting}",
                net,
                task,
                setting,
                Holdout(validation=0.10, test=0.18),
                tables,
                holdout_figures(net, task, setting),
                net,
            )


EXPERIMENTS = tuple(experiments())
