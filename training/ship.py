"""``python -m training.ship RUNS``: put the trained and judged network into the package.

The weights are stored in 16 bits. They were trained on all patients, so the figures on the card are those of
``chest-folds-judged``: of networks of the same recipe, on patients that these never saw.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

from dicom_node.errors import HilumError, SettingsError
from training.experiments.chest.network import CHEST, FOLDS
from training.files import read_json
from training.run import read_claim
from worker.models.store import CHEST_WEIGHTS
from worker.networks.card import Card
from worker.networks.checkpoint import load, save
from worker.networks.export import export


def ship(runs: Path, path: Path = CHEST_WEIGHTS) -> Card:
    """Write the weights of the run ``shipped-chest`` to a file of the package, and return their card.

    Raises
    ------
    SettingsError
        The recipe was not trained or not judged (the card would have no figures), or only in short form, or the folds
        that were judged had another recipe.
    """
    trained, judged = (runs / name / "result.json" for name in (CHEST.name, f"{FOLDS.name}-judged"))
    for result in (trained, judged):
        if not result.exists():
            raise SettingsError("missing-run", f"expected {result}; `hilum train {result.parent.name}` makes it")
        if read_json(result)["short"]:
            raise SettingsError("short-run", f"{result.parent} is short; ship what was trained and judged in full")
    recipes = {read_claim(runs / name).get("recipe") for name in (CHEST.name, FOLDS.name)}
    if len(recipes) > 1:
        folders = f"{runs / CHEST.name} and {runs / FOLDS.name}"
        raise SettingsError("other-recipe", f"{folders} were trained by different recipes; train both again")
    network, card = load(trained.parent / "split-0" / "weights.safetensors")
    figures = {name: measure["mean"] for name, measure in read_json(judged)["measures"].items()}
    metrics = {name: round(value, 4) for name, value in figures.items() if value is not None}
    save(path, network, replace(card, metrics=metrics), half=True)
    return export(path)


def main() -> int:
    """Run as a command."""
    parser = ArgumentParser(
        "python -m training.ship", description="Put the trained and judged network into the package."
    )
    runs = f"folder of the runs {CHEST.name}, {FOLDS.name} and {FOLDS.name}-judged"
    parser.add_argument("runs", metavar="RUNS", type=Path, help=runs)
    try:
        ship(parser.parse_args().runs)
    except HilumError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a command prints
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
