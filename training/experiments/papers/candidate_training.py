"""Train the classifier of candidate regions of Wu et al. 2020, figure 8, and keep its weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from dicom_node.errors import SettingsError
from training.datasets.sample import INFECTION
from training.evaluate.compare import foreground_dice
from training.fit.device import choose_device
from training.fit.loop import Training
from training.fit.losses import build_loss
from training.fit.processes import Processes
from training.fit.recipe import Recipe
from training.fit.schedules import Optimiser
from training.fit.state import Progress
from training.prepare import augment
from training.prepare.examples import Stacking, cut
from training.prepare.patches import SIZE, CandidatePatch, PatchMap
from training.prepare.prepared import Prepared, describe
from training.prepare.preprocess import WU_WINDOW_HU
from training.provenance import PUBLIC_LICENCE, source_version
from training.reporter import Reporter
from worker.networks.card import Card
from worker.networks.checkpoint import save

RECIPE = Recipe(
    loss="cross_entropy",
    batch_size=32,
    epochs=15,
    optimiser=Optimiser("adamw", 3e-4, l2=1e-2),
    augmentation=augment.WU_CLASSIFIER,
    keep="last",
)

SAVE_SECONDS = 60.0
"""Between two saves of the state."""


def train_classifier(
    candidates: Sequence[CandidatePatch], found_by: Collection[str], folder: Path, seed: int, title: str
) -> tuple[PatchMap, Progress]:
    """Train a classifier on nine tenths of the candidates; the tenth kept aside only shows how training goes.

    Parameters
    ----------
    found_by : collection of str
        The hashes of the weights that found the candidates.
    folder : Path
        If it has a training already, this goes on.

    Raises
    ------
    SettingsError
        When there are too few candidates, or the folder has a training on those of other networks, or by another
        recipe.
    """
    if len(candidates) < 2:
        raise SettingsError("no-candidates", "the networks found too few candidates: train them longer")
    prepared = [as_prepared(c, str(number)) for number, c in enumerate(candidates)]
    torch.manual_seed(seed)
    network = PatchMap()
    training = Training(
        network,
        cut([p for number, p in enumerate(prepared) if number % 10], Stacking()),
        RECIPE,
        build_loss(RECIPE.loss),
        lambda network: foreground_dice(network, Stacking(), prepared[::10], 0.5),
        folder,
        seed=seed,
        processes=Processes(0, 1, choose_device()),
        reporter=Reporter(Console(), title),
        save_seconds=SAVE_SECONDS,
    )
    progress, begun_as = training.progress, {"recipe": describe(RECIPE), "found_by": sorted(found_by)}
    if progress.begun_as not in ({}, begun_as):
        raise SettingsError(
            "other-candidates",
            f"{folder} was begun with candidates of other networks, or by another recipe; choose another folder",
        )
    progress.begun_as = begun_as
    if not progress.finished:
        progress.sources = list(dict.fromkeys([*progress.sources, source_version()]))
        training.run()
    training.load_weights(RECIPE.keep)
    return network.eval(), progress


def as_prepared(candidate: CandidatePatch, name: str) -> Prepared:
    """Return a patch as an image of one class."""
    labels = np.full((1, *candidate.patch.shape), candidate.is_infection, np.uint8)
    return Prepared(name, "candidates", None, name, 0, candidate.patch[None], labels, 1.0)


@torch.inference_mode()
def score(network: PatchMap, candidates: Sequence[CandidatePatch]) -> NDArray[np.float64]:
    """Return the probability of infection of each candidate."""
    device = next(network.parameters()).device
    scores = [np.zeros(0)]
    for first in range(0, len(candidates), RECIPE.batch_size):
        patches = np.stack([c.patch for c in candidates[first : first + RECIPE.batch_size]])
        logits = network.classifier(torch.from_numpy(patches)[:, None].float().to(device))
        scores.append(logits.sigmoid().flatten().double().cpu().numpy())
    return np.concatenate(scores)


def save_classifier(path: Path, network: PatchMap, sources: Sequence[str], *, short: bool) -> None:
    """Write the weights as those of a ``patch-classifier``, with their card.

    Parameters
    ----------
    sources : sequence of str
        The commits whose code trained the network.
    short : bool
        Whether the candidates may be those of networks that were trained in short form.
    """
    card = Card(
        network="patch-classifier",
        arguments={},
        classes=(INFECTION,),
        window_hu=WU_WINDOW_HU,
        spacing_mm=(None, None, None),
        image_size=(SIZE, SIZE),
        stack_slices=1,
        threshold=0.5,
        training_data="infection-slices",
        commit=", ".join(sources),
        licence=PUBLIC_LICENCE,
        metrics={},
        short=short,
    )
    save(path, network.classifier, card)
