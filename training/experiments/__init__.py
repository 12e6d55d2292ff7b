"""All experiments by name: the papers' and those of the network that Hilum ships.

To add an experiment, add an entry to a file's ``EXPERIMENTS``; to add a file, add an entry to ``_ALL``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from dicom_node.errors import SettingsError
from training.experiment import Benchmark, Experiment
from training.experiments.chest import doubt, four_classes, judged, layouts, network
from training.experiments.papers import alalwan, classifier, efficiency, saood, shivdeo, thresholds, wu

Entry = Experiment | Benchmark

_ALL: Iterable[Iterable[Entry]] = (
    wu.EXPERIMENTS,
    thresholds.BENCHMARKS,
    classifier.BENCHMARKS,
    shivdeo.EXPERIMENTS,
    saood.EXPERIMENTS,
    alalwan.EXPERIMENTS,
    efficiency.BENCHMARKS,
    network.EXPERIMENTS,
    judged.BENCHMARKS,
    doubt.BENCHMARKS,
    layouts.BENCHMARKS,
    four_classes.EXPERIMENTS,
)

REGISTRY: Mapping[str, Entry] = {experiment.name: experiment for group in _ALL for experiment in group}


def find(name: str) -> Entry:
    """Return an experiment or benchmark by its name.

    Raises
    ------
    SettingsError
        When there is none of that name.
    """
    if name not in REGISTRY:
        nearest = difflib.get_close_matches(name, REGISTRY) or [known for known in REGISTRY if name in known]
        hint = f"did you mean {', '.join(nearest[:3])}? " if nearest else ""
        raise SettingsError("unknown-experiment", f"no experiment {name!r}; {hint}`hilum experiments` lists all")
    return REGISTRY[name]


def without_number(name: str) -> str:
    """Return the name that experiments which differ only in the number of a setting share."""
    return re.sub(r"-setting-\d+$", "-setting-N", name)
