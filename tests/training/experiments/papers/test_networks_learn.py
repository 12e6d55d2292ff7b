"""The papers' networks learn from real scans, each by its own recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training import datasets, experiments
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiment import Experiment
from training.experiments.papers.candidate_training import RECIPE as CLASSIFIER_RECIPE
from training.experiments.papers.candidate_training import as_prepared
from training.fit.device import forward, lay_out, mixed_precision
from training.fit.losses import build_loss, median_frequency_weights
from training.fit.recipe import Recipe
from training.prepare.examples import Example, cut
from training.prepare.patches import PatchMap, find_patches
from training.prepare.prepared import prepare
from training.prepare.preprocess import Preprocess
from worker.networks.network import SegmentationNetwork
from worker.networks.registry import build

ONE_OF_EACH_NETWORK = (
    "wu-infection-unet",
    "wu-infection-unet-2.5d",
    "shivdeo-2d",
    "shivdeo-3d-overlap-0.625",
    "shivdeo-3d-206m",
    "saood-segnet-binary",
    "saood-segnet-vgg16-binary",
    "saood-unet-binary",
    "alalwan-separable",
    "alalwan-standard",
)

SAMPLES = 32

DENSE_HU = -650
"""What is denser than this in a lung is a candidate: infection, vessels and the lung's border."""


@pytest.fixture(scope="module")
def read_some() -> Callable[[str, Path], list[Sample]]:
    """Return a cached function that reads samples 32 to 63 of a data set: there a patient has widespread infection."""
    return cache(lambda name, data: list(islice(datasets.read(name, data), SAMPLES, 2 * SAMPLES)))


@pytest.mark.data
@pytest.mark.parametrize("name", ONE_OF_EACH_NETWORK)
def test_the_loss_falls_on_real_scans(
    name: str, tmp_path: Path, shared_data: Path, read_some: Callable[[str, Path], list[Sample]]
) -> None:
    experiment = experiments.find(name)
    assert isinstance(experiment, Experiment)
    losses = train_a_little(experiment, read_some(experiment.data[0], shared_data), tmp_path)
    assert min(losses[-2:]) < 0.97 * losses[0]


@pytest.mark.data
def test_the_classifiers_loss_falls_on_real_candidates(
    shared_data: Path, read_some: Callable[[str, Path], list[Sample]]
) -> None:
    candidates = [
        candidate
        for sample in read_some("infection-slices", shared_data)
        for candidate in find_patches(
            Preprocess(sample.image.shape[1:]).image(sample),  # type: ignore[arg-type]  # a slice has two sides
            sample.mask(LUNG) & (sample.image > DENSE_HU),
            sample.mask(INFECTION),
        )
        if np.count_nonzero(candidate.region) > 100
    ]
    eight_of_each = [c for c in candidates if c.is_infection][:8] + [c for c in candidates if not c.is_infection][:8]
    examples = [as_prepared(candidate, str(number)) for number, candidate in enumerate(eight_of_each)]
    images, labels = (torch.stack([torch.from_numpy(getattr(e, k)) for e in examples]) for k in ("image", "labels"))
    torch.manual_seed(0)
    losses = four_steps(PatchMap(), CLASSIFIER_RECIPE, None, images, labels)
    assert labels.float().mean() == 0.5
    assert min(losses[-2:]) < 0.97 * losses[0]


def train_a_little(experiment: Experiment, samples: list[Sample], folder: Path) -> list[float]:
    """Return the losses of four steps on one small batch."""
    torch.manual_seed(0)
    side = 32 if experiment.stacking.slices > 3 else 64
    network = build(experiment.network, experiment.arguments)
    assert isinstance(network, SegmentationNetwork)
    preprocess = replace(experiment.preprocess, size=(side, side))
    prepared = prepare(samples, preprocess, experiment.target, folder)
    examples = sorted(cut(prepared, experiment.stacking), key=most_lesion)[: 1 if network.layout == "3d" else 2]
    images, labels = (torch.stack([torch.from_numpy(getattr(e, k)()) for e in examples]) for k in ("image", "labels"))
    weights = experiment.recipe.class_weights
    if weights == "median_frequency":
        weights = tuple(median_frequency_weights(list(labels[:, 0]), len(experiment.target.names)))
    return four_steps(network, experiment.recipe, weights, images, labels)


def four_steps(
    network: SegmentationNetwork, recipe: Recipe, weights: Sequence[float] | None, images: Tensor, labels: Tensor
) -> list[float]:
    """Return the losses of four steps on one batch, without dropout and augmentation, which add noise to them."""
    device, loss = torch.device("cpu"), build_loss(recipe.loss, weights, **recipe.loss_arguments)
    lay_out(network, device).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d | torch.nn.Dropout3d):
            module.eval()
    optimiser, losses = recipe.optimiser.build(network), []
    for _ in range(4):
        with mixed_precision(device, network.layout):
            logits = forward(network, network.layout, images.float())
        value = loss(logits, labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


def most_lesion(example: Example) -> int:
    return -int((example.labels() > 0).sum())
