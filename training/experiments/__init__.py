"""The papers' experiments, a file a paper; a new one is one entry in a file's ``EXPERIMENTS``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from dicom_node.errors import SettingsError
from training.experiment import Experiment
from training.experiments import saood

REGISTRY: Mapping[str, Experiment] = {e.name: e for module in (saood,) for e in module.EXPERIMENTS}


def find(name: str) -> Experiment:
    """Return an experiment by its name.

    Raises
    ------
    SettingsError
        When there is none of that name.
    """
    if name not in REGISTRY:
        nearest = difflib.get_close_matches(name, REGISTRY, n=3)
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
        raise SettingsError("unknown-experiment", f"no experiment {name!r}{hint} `hilum experiments` lists all")
    return REGISTRY[name]
