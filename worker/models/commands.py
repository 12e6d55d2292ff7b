"""``hilum models``: the networks that this machine could measure with."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from dicom_node.settings import load_settings
from worker.models.store import Model, chosen_weights, find_models


def run_models(arguments: argparse.Namespace) -> int:
    """List the models and verify them; return 1 if one has a fault, such as a wrong hash, else 0."""
    settings = load_settings()
    models = list(find_models(settings.worker))
    if arguments.json:
        print(json.dumps([describe(model) for model in models], indent=2))
    else:
        for model in models:
            print_model(model)
        uses_network = settings.worker.method == "network"
        print(f"measuring with: {chosen_weights(settings.worker) if uses_network else 'HU thresholds'}")
    return 1 if any(model.fault for model in models) else 0


def describe(model: Model) -> dict[str, object]:
    """Return a model as a dictionary for JSON."""
    return {
        "path": str(model.path),
        "fault": model.fault,
        "card": None if model.card is None else asdict(model.card),
    }


def print_model(model: Model) -> None:
    """Print a model in a few lines."""
    print(f"{model.path.stem}: {model.fault or 'as on its card'}")
    if model.card is not None:
        print(f"  finds     {', '.join(model.card.classes)}")
        print(f"  trained   on {model.card.training_data}")
        print(f"  licence   {model.card.licence}")
        print(f"  SHA-256   {model.card.weights_sha256}")
