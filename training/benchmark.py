"""Run a benchmark, a table that is measured rather than trained, and write its result in the form of a training's."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicom_node.errors import SettingsError
from training.claim import lock
from training.evaluate.metrics import Spread
from training.experiment import Benchmark
from training.files import read_json, write_json
from training.fit.device import choose_device
from training.provenance import machine, source_version


def run_benchmark(benchmark: Benchmark, data: Path, folder: Path, *, short: bool) -> dict[str, Any]:
    """Measure and return the result as it is written to ``result.json``.

    Parameters
    ----------
    folder : Path
        The run's folder. Earlier runs that the benchmark needs lie beside it, named after their experiments.

    Raises
    ------
    SettingsError
        When the folder holds another experiment, or a full result that a short one would replace, or another process
        works in it.
    """
    held = lock(folder)
    try:
        _refuse_other_results(benchmark, folder, short)
        write_json(folder / "trial.json", {"experiment": benchmark.name})
        source = source_version()  # read before measuring: an hour later the source may have changed
        figures = benchmark.measure(data, folder.resolve(), short)
        write_json(folder / "result.json", _result(benchmark, figures, source, short))
    finally:
        os.close(held)
    written: dict[str, Any] = read_json(folder / "result.json")
    return written


def _result(benchmark: Benchmark, figures: Mapping[str, float], source: str, short: bool) -> dict[str, Any]:
    return {
        "experiment": benchmark.name,
        "paper": benchmark.paper,
        "differs": benchmark.differs,
        "short": short,
        "length": benchmark.short_form if short else "measured once",
        "splits_done": 0,
        "splits_all": 0,
        "split_by": "",
        "parameters": 0,
        "seed": 0,
        "source": source,
        **machine(choose_device()),
        "measures": {name: vars(Spread(value, math.nan, 1)) for name, value in figures.items()},
        "published": [vars(figure) for figure in benchmark.published],
        "splits": [],
    }


def _refuse_other_results(benchmark: Benchmark, folder: Path, short: bool) -> None:
    """Refuse a folder of another experiment, or a full result for a short one.

    Trainings and benchmarks claim their folder (``trial.json``) before they have a result.
    """
    files = folder / "trial.json", folder / "result.json"
    claim, result = (read_json(path) if path.exists() else {} for path in files)
    earlier = (claim | result).get("experiment", benchmark.name)
    if earlier != benchmark.name:
        raise SettingsError("other-run", f"{folder} holds {earlier}; choose another folder")
    if short and result and not result["short"]:
        raise SettingsError("full-run", f"{folder} was measured in full; choose another folder for the short form")
