"""What ``hilum train`` and ``hilum evaluate`` do."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from training import experiments
from training.files import read_json
from training.processes import Processes, join
from training.trial import Trial


def train(arguments: Namespace) -> int:
    """Train an experiment and print its figures beside the paper's."""
    with join() as processes:
        trial = _trial(arguments, processes, arguments.experiment, arguments.short, arguments.seed)
        _print(trial.train(), trial.console)
    return 0


def evaluate(arguments: Namespace) -> int:
    """Measure the weights of a run again and print its figures beside the paper's."""
    claim = read_json(arguments.run / "trial.json")
    arguments.out = arguments.run
    with join() as processes:
        trial = _trial(arguments, processes, claim["experiment"], claim["short"], claim["seed"])
        _print(trial.evaluate(), trial.console)
    return 0


def _trial(arguments: Namespace, processes: Processes, name: str, short: bool, seed: int) -> Trial:
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    return Trial(
        experiments.find(name),
        arguments.data,
        arguments.out,
        short=short,
        seed=seed,
        processes=processes,
        console=Console(quiet=processes.rank != 0),
        splits=arguments.splits,
    )


def _print(result: Mapping[str, Any], console: Console) -> None:
    """Print the figures that the paper has too, then all of them."""
    done = f"{result['splits_done']} of {result['splits_all']} splits, by {result['split_by']}"
    length = f"SHORT, {result['epochs']} epochs" if result["short"] else f"{result['epochs']} epochs"
    table = Table("measure", "here", "paper", title=f"{result['experiment']} ({result['paper']}): {done}, {length}")
    published: dict[str, list[str]] = {}
    for figure in result["published"]:
        text = plus_minus(figure["mean"], figure["standard_deviation"])
        published.setdefault(figure["measure"], []).append(f"{text} ({figure['place']})")
    for name, spread in result["measures"].items():
        here = plus_minus(spread["mean"], spread["standard_deviation"])
        table.add_row(name, here, "; ".join(published.get(name, ())))
    console.print(table)


def plus_minus(mean: float | None, standard_deviation: float | None) -> str:
    """Return a figure as text, with its standard deviation where it has one."""
    if mean is None or mean != mean:
        return "-"
    if standard_deviation is None or standard_deviation != standard_deviation:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {standard_deviation:.3f}"
