"""List, verify and open the weights of networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.settings import WorkerSettings
from worker.chest_network import ChestNetwork, require_chest_network
from worker.networks.card import Card, read_card, read_exported, read_weights
from worker.networks.errors import NetworkError
from worker.networks.opening import require_runnable
from worker.pipeline import Method

FOLDER = Path(__file__).parent
"""The folder of the weights that come with the package."""

CHEST_WEIGHTS = FOLDER / "chest.safetensors"
"""The network that finds lungs and infection unless a site names its own."""


@dataclass(frozen=True)
class Model:
    """Weights and their card; ``fault`` says what is wrong with them, and is empty if nothing is."""

    path: Path
    card: Card | None
    fault: str


def find_models(settings: WorkerSettings) -> Iterator[Model]:
    """Yield the shipped models, then the site's own, each verified."""
    yield from (verify(path) for path in sorted(FOLDER.glob("*.safetensors")))
    if settings.weights is not None:
        yield verify(settings.weights)


def verify(path: Path) -> Model:
    """Compare weights, and their export if there is one, with the hashes on their card.

    A fault is also what a worker here would refuse: weights of a short form, of no chest network, or that need torch.
    """
    try:
        card = read_card(path.with_suffix(".json"))
    except (NetworkError, OSError) as error:
        return Model(path, None, str(error))
    try:
        read_weights(path, card)
        card.require_full()
        require_chest_network(card)
        require_runnable(path, card)
        if card.openvino_sha256:
            read_exported(path, card)
    except (NetworkError, OSError) as error:
        return Model(path, card, str(error))
    return Model(path, card, "")


def chosen_weights(settings: WorkerSettings) -> Path:
    """Return the weights that the method ``network`` measures with: the site's own, or else the shipped ones."""
    return settings.weights or CHEST_WEIGHTS


def open_network(settings: WorkerSettings) -> Method:
    """Load the site's own network, or else the shipped one, as a method that finds lungs and infection.

    Raises
    ------
    SettingsError
        The weights are missing, damaged, of a short form, or not those of a chest network.
    """
    path = chosen_weights(settings)
    with weights_at(path, "worker.weights"):
        network = ChestNetwork.open(path, threads=settings.threads or None)
        network.card.require_full()
        return network.method


@contextmanager
def weights_at(path: Path, named: str) -> Iterator[None]:
    """Turn errors with weights into a SettingsError that names the weights.

    Parameters
    ----------
    named : str
        The setting or argument by which the user named them.

    Raises
    ------
    SettingsError
        A file cannot be read or written, or the weights are damaged, or not what they are opened for.
    """
    try:
        yield
    except NetworkError as error:
        raise SettingsError(error.code, f"{named}: {path}: {error.message}") from error
    except OSError as error:
        raise SettingsError(
            "no-weights", f"{named}: {error.filename or path}: {error.strerror}; weights and their card lie together"
        ) from error
