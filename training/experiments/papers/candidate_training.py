"""Train the classifier of candidate regions of Wu et al. 2020, figure 8, and keep its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from training.prepare import augment
from training.prepare.examples import Stacking, cut
from training.prepare.patches import SIZE, CandidatePatch, PatchMap
from training.prepare.prepared import Prepared
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


def train_classifier(candidates: Sequence[CandidatePatch], folder: Path, seed: int, title: str) -> Training:
    """Train a classifier on nine tenths of the candidates; the tenth kept aside only shows how training goes.

    Returns
    -------
    Training
        Finished; its network, a ``PatchMap``, is the trained one.

    Raises
    ------
    SettingsError
        When there are too few candidates, or the folder has a training on others.
    """
    if len(candidates) < 2:
        raise SettingsError("no-candidates", "the networks found too few candidates: train them longer")
    prepared = [as_prepared(c, str(number)) for number, c in enumerate(candidates)]
    torch.manual_seed(seed)
    training = Training(
        PatchMap(),
        cut([p for number, p in enumerate(prepared) if number % 10], Stacking()),
        RECIPE,
        build_loss(RECIPE.loss),
        lambda network: foreground_dice(network, Stacking(), prepared[::10], 0.5),
        folder,
        seed=seed,
        processes=Processes(0, 1, choose_device()),
        reporter=Reporter(Console(), title),
    )
    begun_as = {"recipe": repr(RECIPE), "candidates": fingerprint(candidates)}
    if training.progress.begun_as not in ({}, begun_as):
        raise SettingsError(
            "other-candidates", f"{folder} was begun with candidates of other networks; choose another folder"
        )
    training.progress.begun_as = begun_as
    if not training.progress.finished:
        training.progress.sources = list(dict.fromkeys([*training.progress.sources, source_version()]))
    training.run()
    training.load_weights(RECIPE.keep)
    training.network.eval()
    return training


def fingerprint(candidates: Sequence[CandidatePatch]) -> str:
    """Return a hash of what a classifier learns from."""
    content = hashlib.sha256()
    for candidate in candidates:
        content.update(candidate.patch.tobytes() + bytes([candidate.is_infection]))
    return content.hexdigest()


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


def save_classifier(path: Path, training: Training, *, short: bool) -> Card:
    """Write the weights as those of a ``patch-classifier``, with their card; return the card.

    Parameters
    ----------
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
        commit=", ".join(training.progress.sources),
        licence=PUBLIC_LICENCE,
        metrics={},
        short=short,
    )
    return save(path, network_of(training).classifier, card)


def network_of(training: Training) -> PatchMap:
    """Return the network that ``train_classifier`` trained."""
    if not isinstance(training.network, PatchMap):
        raise TypeError(f"expected a classifier of patches, got a {type(training.network).__name__}")
    return training.network
