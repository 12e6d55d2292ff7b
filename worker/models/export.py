"""``hilum export``: a site's own weights for workers without torch."""

from __future__ import annotations

import argparse

from dicom_node.errors import SettingsError
from worker.networks.errors import NetworkError
from worker.networks.export import export
from worker.networks.exported import exported_files


def run_export(arguments: argparse.Namespace) -> int:
    """Write the network in OpenVINO's form beside its weights.

    Raises
    ------
    SettingsError
        The weights are missing, damaged or of no network that Hilum knows.
    """
    try:
        export(arguments.weights)
    except NetworkError as error:
        raise SettingsError(error.code, f"{arguments.weights}: {error.message}") from error
    except OSError as error:
        raise SettingsError(
            "no-weights", f"cannot read {arguments.weights} and its card, or write beside it: {error.strerror}"
        ) from error
    structure, weights = exported_files(arguments.weights)
    print(f"wrote {structure} and {weights}, and their hash into the card; move the four files together")
    return 0
