"""Training that goes on from the weights of another network, rather than from chance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dicom_node.errors import SettingsError
from worker.networks.card import Card
from worker.networks.checkpoint import load
from worker.networks.errors import NetworkError
from worker.networks.network import SegmentationNetwork
from worker.networks.registry import build


def take_over(network: SegmentationNetwork, path: Path, classes: tuple[str, ...]) -> None:
    """Give a network the weights in a file; where its classes are others, what answers for classes stays as it is.

    Parameters
    ----------
    classes : tuple of str
        What the network is to find, the background first.

    Raises
    ------
    SettingsError
        The weights are missing, damaged, or of another network.
    """
    try:
        source, card = load(path)
    except OSError as error:
        raise SettingsError("no-weights", f"{path}, which training starts from: {error.strerror}") from error
    except NetworkError as error:
        raise SettingsError(error.code, f"{path}, which training starts from: {error.message}") from error
    taken = source.state_dict()
    if card.classes != classes:
        taken = {name: tensor for name, tensor in taken.items() if name not in answering_for_classes(card)}
    own = network.state_dict()
    differing = {name for name, tensor in taken.items() if name not in own or own[name].shape != tensor.shape}
    if differing or type(source) is not type(network):
        raise SettingsError(
            "other-network", f"{path} holds a {card.network!r} of other layers than those of the network to be trained"
        )
    network.load_state_dict({**own, **taken})


def answering_for_classes(card: Card) -> set[str]:
    """Return the names of the tensors whose shape depends on how many classes a network has."""
    shapes: list[Mapping[str, Tensor]] = []
    for more in (0, 1):
        with torch.device("meta"):
            shapes.append(build(card.network, {**card.arguments, "classes": len(card.classes) + more}).state_dict())
    return {name for name, tensor in shapes[0].items() if tensor.shape != shapes[1][name].shape}
