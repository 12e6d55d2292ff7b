"""``python -m training.ship RUNS``: put the trained and judged network into the package.

The weights are stored in 16 bits; the figures on the card are those of ``shipped-chest-judged``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from dicom_node.errors import SettingsError
from training.experiments.shipped import CHEST
from training.files import read_json
from worker.models.store import CHEST as SHIPPED
from worker.networks.checkpoint import Card, load, save


def ship(runs: Path, path: Path = SHIPPED) -> Card:
    """Write the weights of the run to a file of the package, and return their card.

    Raises
    ------
    SettingsError
        The network was not judged: its card would have no figures.
    """
    judged = runs / f"{CHEST.name}-judged" / "result.json"
    if not judged.exists():
        raise SettingsError("missing-run", f"expected the run {CHEST.name}-judged in {runs}; `hilum train` measures it")
    network, card = load(runs / CHEST.name / "split-0" / "weights.safetensors")
    figures = {name: measure["mean"] for name, measure in read_json(judged)["measures"].items()}
    metrics = {name: round(value, 4) for name, value in figures.items() if value is not None}
    return save(path, network, replace(card, metrics=metrics), half=True)


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
