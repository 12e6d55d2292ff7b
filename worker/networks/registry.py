"""The networks by the names that a checkpoint's card may use."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

from worker.networks.classifier import PatchClassifier
from worker.networks.dense_unet import DenseUNet569
from worker.networks.errors import NetworkError
from worker.networks.network import Network
from worker.networks.segnet import SegNet, SegNetVGG16
from worker.networks.unet import UNet, UNet25D
from worker.networks.vnet import VNet, WideVNet
from worker.networks.xception_unet import XceptionUNet

NETWORKS: Mapping[str, type[Network]] = {
    "unet": UNet,
    "unet-2.5d": UNet25D,
    "patch-classifier": PatchClassifier,
    "xception-unet": XceptionUNet,
    "vnet": VNet,
    "vnet-wide": WideVNet,
    "segnet": SegNet,
    "segnet-vgg16": SegNetVGG16,
    "dense-unet-569": DenseUNet569,
}


def build(name: str, arguments: Mapping[str, Any]) -> Network:
    """Return a network with fresh weights.

    Parameters
    ----------
    name : str
        A key of ``NETWORKS``.
    arguments : mapping
        Arguments of the network's constructor that differ from its defaults.

    Raises
    ------
    NetworkError
        The name or an argument is unknown, or an argument's value is of a wrong type or out of range.
    """
    if name not in NETWORKS:
        raise NetworkError("unknown-network", f"no network is called {name!r}; {nearest(name, NETWORKS)}")
    network = NETWORKS[name]
    types = get_type_hints(network.__init__)
    known = list(inspect.signature(network).parameters)
    for argument, value in arguments.items():
        if argument not in known:
            raise NetworkError(
                "unknown-network-argument",
                f"network {name!r} has no argument {argument!r}; {nearest(argument, known)}",
            )
        if not is_valid(value, types[argument]):
            raise NetworkError(
                "bad-network-argument",
                f"argument {argument!r} of network {name!r} must be {describe(types[argument])}, got {value!r}",
            )
    return network(**arguments)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name most similar to the given one, or at all known names if none is similar."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"


def is_valid(value: object, kind: type) -> bool:
    """Whether a value fits a constructor's argument: counts are at least 1, shares lie in [0, 1)."""
    if kind is bool or isinstance(value, bool):
        return kind is type(value)
    if kind is int:
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and 0 <= value < 1


def describe(kind: type) -> str:
    """Return a description of the values that ``is_valid`` accepts."""
    return {int: "a whole number from 1", float: "a number from 0 to below 1", bool: "true or false"}[kind]
