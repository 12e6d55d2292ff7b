"""Which weights there are, whether they are whole, and opening them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.settings import WorkerSettings
from worker.chest_network import ChestNetwork
from worker.networks.card import Card, read_card, read_exported, read_weights
from worker.networks.errors import NetworkError
from worker.pipeline import Method

FOLDER = Path(__file__).parent
"""Of the weights that come with the package."""

CHEST_WEIGHTS = FOLDER / "chest.safetensors"
"""The network that finds lungs and infection unless a site names its own."""


@dataclass(frozen=True)
class Model:
    """Weights and their card; ``fault`` says what is wrong with them, and is empty where nothing is."""

    path: Path
    card: Card | None
    fault: str


def find_models(settings: WorkerSettings) -> Iterator[Model]:
    """Give out the shipped models, then the site's own, each verified."""
    yield from (verify(path) for path in sorted(FOLDER.glob("*.safetensors")))
    if settings.weights is not None:
        yield verify(settings.weights)


def verify(path: Path) -> Model:
    """Compare weights, and what was exported of them, with the hashes on their card; a short form is a fault too."""
    try:
        card = read_card(path.with_suffix(".json"))
    except (NetworkError, OSError) as error:
        return Model(path, None, str(error))
    try:
        read_weights(path, card)
        card.require_full()
        if card.openvino_sha256:
            read_exported(path, card)
    except (NetworkError, OSError) as error:
        return Model(path, card, str(error))
    return Model(path, card, "")


def open_network(settings: WorkerSettings) -> Method:
    """Load the site's network, else the shipped one, to find lungs and infection with.

    Raises
    ------
    SettingsError
        The weights are missing, damaged, of a short form, or not those of a chest network.
    """
    path = settings.weights or CHEST_WEIGHTS
    with weights_at(path, "worker.weights"):
        network = ChestNetwork.open(path, threads=settings.threads or None)
        network.card.require_full()
        return network.method


@contextmanager
def weights_at(path: Path, named: str) -> Iterator[None]:
    """Make what goes wrong with weights an error of the settings that tells which they are.

    Parameters
    ----------
    named : str
        How users know them.

    Raises
    ------
    SettingsError
        A file of theirs cannot be read or written, or they are damaged, or not what they are opened for.
    """
    try:
        yield
    except NetworkError as error:
        raise SettingsError(error.code, f"{named}: {path}: {error.message}") from error
    except OSError as error:
        raise SettingsError(
            "no-weights", f"{named}: {error.filename or path}: {error.strerror}; weights and their card lie together"
        ) from error
