"""An experiment of a paper, as data: the network, what it is trained on, how it is judged, and the paper's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.fit.recipe import Recipe
from training.prepare.examples import Stacking
from training.prepare.preprocess import Preprocess
from training.prepare.splits import SplitRule
from training.prepare.target import Target

LAST_EPOCH = "last_epoch/"
"""Begins the names of measures of the last epoch's weights."""


@dataclass(frozen=True)
class Published:
    """A figure that a paper reports.

    Parameters
    ----------
    measure : str
        Key in our result, such as ``infection/dice_global``. One that begins with ``LAST_EPOCH`` has the weights of the
        last epoch tested for it, besides those that the recipe keeps.
    mean : float
    standard_deviation : float or None
    place : str
        Where in the paper the figure is. If a paper contradicts itself, each place has its own entry.
    """

    measure: str
    mean: float
    place: str
    standard_deviation: float | None = None


@dataclass(frozen=True)
class Short:
    """The short form of an experiment, for machines that cannot run the full one; results say that it is short."""

    epochs: int
    steps_per_epoch: int | None = None
    size: tuple[int, int] | None = None
    phases: tuple[int, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One row, or one setting, of a paper's table.

    Parameters
    ----------
    name : str
        The argument of ``hilum train``.
    paper : str
        Authors, year and table.
    data : tuple of str
        Data sets by name, keys of ``training.datasets.READERS``.
    network, arguments : str, mapping
        For ``worker.networks.registry.build``.
    threshold : float
        Probability from which a pixel belongs to a single foreground class.
    as_worker : bool
        Whether test scans are judged as a worker reads them, at their own pixels, rather than on the network's grid.
    pretrained : Path or None
        Weights to begin with; a relative path is relative to the folder of the runs.
    differs, data_differ : str
        How the experiment differs from the paper's: on any data, and on its own.
    may_lack : tuple of str
        Classes that the data need not have.
    """

    name: str
    paper: str
    data: tuple[str, ...]
    target: Target
    preprocess: Preprocess
    network: str
    recipe: Recipe
    split: SplitRule
    short: Short
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stacking: Stacking = field(default_factory=Stacking)
    threshold: float = 0.5
    as_worker: bool = False
    pretrained: Path | None = None
    published: tuple[Published, ...] = ()
    differs: str = ""
    data_differ: str = ""
    may_lack: tuple[str, ...] = ()

    @property
    def length(self) -> str:
        """How a split trains, such as "160 epochs at 256x256, batches of 4, initial rate 0.001"."""
        recipe, size = self.recipe, self.preprocess.size
        epochs = " + ".join(str(e) for e in (*recipe.phases, recipe.epochs))
        steps = f" of {recipe.steps_per_epoch} steps" if recipe.steps_per_epoch else ""
        pretrained = ", from pretrained weights" if self.pretrained is not None else ""
        rate = f"batches of {recipe.batch_size}, initial rate {recipe.optimiser.rate:g}"
        return f"{epochs} epochs{steps} at {size[0]}x{size[1]}, {rate}{pretrained}"

    @property
    def differences(self) -> str:
        """How the experiment, on the data that it has, differs from the paper's."""
        return "; ".join(filter(None, (self.differs, self.data_differ)))

    def on(self, data: tuple[str, ...]) -> Experiment:
        """Return the experiment on data sets that may be others than its own."""
        is_own = set(data) == set(self.data) or not self.data_differ
        return replace(self, data=data, data_differ=self.data_differ if is_own else "other data")

    def shortened(self) -> Experiment:
        """Return the short form: fewer and shorter epochs, perhaps smaller images."""
        short = self.short
        recipe = replace(
            self.recipe,
            epochs=short.epochs,
            steps_per_epoch=short.steps_per_epoch or self.recipe.steps_per_epoch,
            phases=short.phases,
        )
        preprocess = replace(self.preprocess, size=short.size or self.preprocess.size)
        return replace(self, recipe=recipe, preprocess=preprocess)


@dataclass(frozen=True)
class Benchmark:
    """A table of a paper that is measured rather than trained.

    Parameters
    ----------
    measure : callable
        Maps the folder of the data sets, the run's folder, beside which earlier runs lie, and whether to take the
        short form, to figures by name. Pictures go into the run's folder.
    short_form : str
        What the short form does instead.
    """

    name: str
    paper: str
    measure: Callable[[Path, Path, bool], Mapping[str, float]]
    short_form: str = "measured once"
    published: tuple[Published, ...] = ()
    differs: str = ""
