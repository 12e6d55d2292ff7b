"""Fine-tuning: a network begins with the weights of another one rather than with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dicom_node.errors import SettingsError
from training.datasets import SAME_PATIENTS
from worker.models.store import weights_at
from worker.networks.card import Card
from worker.networks.checkpoint import load
from worker.networks.network import Network, SegmentationNetwork
from worker.networks.registry import build


def open_pretrained(path: Path) -> tuple[Network, Card]:
    """Return the network and the card of weights to begin with; errors are those of ``open_weights``."""
    return open_weights(path, "pretrained weights")


def open_weights(path: Path, named: str) -> tuple[Network, Card]:
    """Return the network and the card of weights that an error is to call by this name.

    Raises
    ------
    SettingsError
        They are missing or damaged.
    """
    with weights_at(path, named):
        return load(path)


def load_pretrained(network: SegmentationNetwork, path: Path, classes: tuple[str, ...]) -> None:
    """Load the weights in a file into a network; those of the head, which gives the classes, only for the same classes.

    Parameters
    ----------
    classes : tuple of str
        The class of each of the network's channels, as its card will name them.

    Raises
    ------
    SettingsError
        The weights are missing, damaged, or of another network.
    """
    source, card = open_pretrained(path)
    pretrained = source.state_dict()
    if card.classes != classes:
        head = head_tensors(card)
        pretrained = {name: tensor for name, tensor in pretrained.items() if name not in head}
    own = network.state_dict()
    differing = {name for name, tensor in pretrained.items() if name not in own or own[name].shape != tensor.shape}
    if differing or type(source) is not type(network):
        raise SettingsError(
            "other-network", f"{path} holds a {card.network!r} of other layers than those of the network to be trained"
        )
    network.load_state_dict({**own, **pretrained})


def seen_before(data: Sequence[str], card: Card) -> list[str]:
    """Return those of the data sets whose patients the card's weights had already learned from in pretraining."""
    _, *before = card.training_data.split("; before that ")
    learned = {name for names in before for name in names.split(", ")}
    patients = learned.union(*(group for group in SAME_PATIENTS if learned & group))
    return [name for name in data if name in patients]


def head_tensors(card: Card) -> set[str]:
    """Return the names of the tensors whose shape depends on how many classes a network has."""
    shapes: list[Mapping[str, Tensor]] = []
    for more in (0, 1):
        with torch.device("meta"):
            shapes.append(build(card.network, {**card.arguments, "classes": len(card.classes) + more}).state_dict())
    return {name for name, tensor in shapes[0].items() if tensor.shape != shapes[1][name].shape}
