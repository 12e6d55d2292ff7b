"""``hilum export``: convert a site's own weights for workers without torch."""

from __future__ import annotations

import argparse

from worker.models.store import weights_at
from worker.networks.card import exported_files
from worker.networks.export import export


def run_export(arguments: argparse.Namespace) -> int:
    """Write the network in OpenVINO's form beside its weights.

    Raises
    ------
    SettingsError
        The weights are missing, damaged, of a short form (`hilum train --short`), or of no network that Hilum knows.
    """
    with weights_at(arguments.weights, "WEIGHTS"):
        export(arguments.weights)
    structure, weights = exported_files(arguments.weights)
    print(f"wrote {structure} and {weights}, and their hash into the card; move the four files together")
    return 0
