"""What the sub-commands of training do."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table

from dicom_node.errors import SettingsError
from training import experiments, report
from training.benchmark import run_benchmark
from training.experiment import Benchmark
from training.files import read_json
from training.processes import Processes, join
from training.trial import Trial


def train(arguments: Namespace) -> int:
    """Train an experiment, or measure a benchmark, and print its figures beside the paper's."""
    use_threads(arguments.threads)
    experiment = experiments.find(arguments.experiment)
    if isinstance(experiment, Benchmark):
        if arguments.sets:
            raise SettingsError("no-sets", f"{experiment.name} is measured on its own data; leave --sets out")
        result = run_benchmark(experiment, arguments.data, arguments.out, short=arguments.short)
        print_result(result, Console())
        return 0
    with join() as processes:
        trial = make_trial(arguments, arguments.out, processes)
        print_result(trial.train(), trial.console)
    return 0


def evaluate(arguments: Namespace) -> int:
    """Measure the weights of a run again and print its figures beside the paper's."""
    use_threads(arguments.threads)
    claim = arguments.run / "trial.json"
    if not claim.exists():
        raise SettingsError("no-run", f"expected a folder that `hilum train` has filled, got {arguments.run}")
    arguments.sets = None  # claims of before --sets do not name them
    for name, value in read_json(claim).items():
        setattr(arguments, name, value)
    with join() as processes:
        trial = make_trial(arguments, arguments.run, processes)
        print_result(trial.evaluate(), trial.console)
    return 0


def list_experiments(arguments: Namespace) -> int:
    """List the experiments, or write the page about the runs of a folder."""
    console = Console()
    if arguments.runs is None:
        table = Table(Column("experiment", no_wrap=True), "regenerates", "data")
        for name, experiment in experiments.REGISTRY.items():
            data = "" if isinstance(experiment, Benchmark) else ", ".join(experiment.data)
            table.add_row(name, experiment.paper, data)
        console.print(table)
        return 0
    results = report.read_results(arguments.runs)
    if not results:
        raise SettingsError("no-run", f"no result.json in the folders below {arguments.runs}")
    if arguments.write is None:
        for result in results:
            print_result(result, console)
    else:
        report.write_report(results, arguments.write)
    return 0


def make_trial(arguments: Namespace, folder: Path, processes: Processes) -> Trial:
    """Return the trial that the arguments ask for."""
    experiment = experiments.find(arguments.experiment)
    if isinstance(experiment, Benchmark):
        raise SettingsError("not-a-training", f"{experiment.name} has no weights; `hilum train` measures it again")
    if arguments.sets:
        experiment = replace(experiment, data=tuple(arguments.sets))
    return Trial(
        experiment,
        arguments.data,
        folder,
        short=arguments.short,
        seed=arguments.seed,
        processes=processes,
        console=Console(quiet=processes.rank != 0),
        splits=arguments.splits,
    )


def use_threads(threads: int | None) -> None:
    """Limit the CPU threads of this process, where asked to."""
    if threads is not None:
        torch.set_num_threads(threads)


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the figures beside the paper's."""
    table = Table(Column("measure", no_wrap=True), "here", "paper", title=f"{result['experiment']} ({result['paper']})")
    for row in report.rows(result):
        table.add_row(*row)
    console.print(table)
    console.print(report.describe(result), highlight=False)
