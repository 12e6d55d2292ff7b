"""The functions that carry out the sub-commands of training."""

from __future__ import annotations

import errno
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table

from dicom_node.errors import PassingFailure, SettingsError
from training import experiments, report
from training.benchmark import run_benchmark
from training.experiment import Benchmark, Experiment
from training.files import read_json
from training.fit.processes import Processes, join
from training.summary import describe, rows
from training.trial import Trial

FULL = 2**20
"""A disk with less free space than this many bytes is full."""


def train(arguments: Namespace) -> int:
    """Train an experiment, or measure a benchmark, and print its figures beside the paper's."""
    use_threads(arguments.threads)
    experiment = experiments.find(arguments.experiment)
    if isinstance(experiment, Benchmark):
        refuse_options_of_trainings(arguments)
        with telling_of_full_disk(arguments.out):
            result = run_benchmark(experiment, arguments.data, arguments.out, short=arguments.short)
        print_result(result, Console())
        return 0
    with telling_of_full_disk(arguments.out), join() as processes:
        trial = make_trial(arguments, arguments.out, processes)
        print_result(trial.train(), trial.console)
    return 0


@contextmanager
def telling_of_full_disk(run: Path) -> Iterator[None]:
    """Turn any error on a full disk into one that says so: some libraries name no cause when they cannot write.

    Raises
    ------
    PassingFailure
        When the ``with`` block failed and the disk of the run's folder is full.
    """
    try:
        yield
    except Exception as error:
        is_named = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if not is_named and not (run.exists() and shutil.disk_usage(run).free < FULL):
            raise
        raise PassingFailure(
            "disk-full", f"no space is left for {run}; make room, then the same command continues"
        ) from error


def evaluate(arguments: Namespace) -> int:
    """Measure the weights of a run again and print its figures beside the paper's."""
    use_threads(arguments.threads)
    claim = read_claim(arguments.run)
    for name in ("experiment", "short", "seed", "sets"):
        setattr(arguments, name, claim.get(name))  # claims from before --sets existed lack it
    with join() as processes:
        trial = make_trial(arguments, arguments.run, processes)
        print_result(trial.evaluate(), trial.console)
    return 0


def list_experiments(arguments: Namespace) -> int:
    """List the experiments, or write the page about the runs of a folder."""
    console = Console()
    results = {} if arguments.runs is None else report.read_results(arguments.runs)
    if arguments.runs is not None and not results:
        raise SettingsError("no-run", f"no result.json in the folders below {arguments.runs}")
    if arguments.write is not None:
        report.write_report(results, arguments.write)
    elif results:
        for result in results.values():
            print_result(result, console)
    else:
        for line in listing(experiments.REGISTRY):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def listing(registry: Mapping[str, Experiment | Benchmark]) -> Iterator[str]:
    """Yield a line for each experiment below its paper; those that differ only in a setting's number share one."""
    papers: dict[str, dict[str, str]] = {}
    for name, entry in registry.items():
        paper, _, place = entry.paper.partition(", ")
        data = "measured, not trained" if isinstance(entry, Benchmark) else ", ".join(entry.data)
        rows = papers.setdefault(paper, {})
        rows[experiments.without_number(name)] = f"{place:<22} {data}"
    for paper, rows in papers.items():
        yield paper
        yield from (f"  {name:<31} {row}" for name, row in rows.items())
        yield ""
    yield "N is a setting of Saood & Hatem's table 2, from 1 to 9."
    yield "hilum train NAME --data DATA --out RUNS/NAME    trains one and prints its figures beside the paper's"


def refuse_options_of_trainings(arguments: Namespace) -> None:
    """Refuse options that a benchmark would ignore: it is measured once, on its own data."""
    for option in ("sets", "seed", "splits"):
        if getattr(arguments, option) is not None:
            raise SettingsError(
                f"no-{option}", f"{arguments.experiment} is measured, not trained; leave --{option} out"
            )


def read_claim(run: Path) -> dict[str, Any]:
    """Return the claim that a run was begun with, or the result of a benchmark, which used to write no claim."""
    for path in (run / "trial.json", run / "result.json"):
        content: dict[str, Any] = read_json(path) if path.exists() else {}
        if "experiment" in content:  # the result of a split names none
            return content
    raise SettingsError("no-run", f"expected the folder that `hilum train` has filled as --out, got {run}")


def make_trial(arguments: Namespace, folder: Path, processes: Processes) -> Trial:
    """Return the trial that the arguments ask for."""
    experiment = experiments.find(arguments.experiment)
    if isinstance(experiment, Benchmark):
        raise SettingsError("not-a-training", f"{experiment.name} has no weights; `hilum train` measures it again")
    if arguments.sets:
        experiment = experiment.on(tuple(arguments.sets))
    return Trial(
        experiment,
        arguments.data,
        folder,
        short=arguments.short,
        seed=arguments.seed or 0,
        processes=processes,
        console=Console(quiet=processes.rank != 0),
        splits=arguments.splits,
    )


def use_threads(threads: int | None) -> None:
    """Limit the CPU threads of this process, if a number is given."""
    if threads is not None:
        torch.set_num_threads(threads)


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Print a result's figures beside the paper's."""
    table = Table(Column("measure", no_wrap=True), "here", "paper", title=f"{result['experiment']} ({result['paper']})")
    for row in rows(result):
        table.add_row(*row)
    console.print(table, markup=False)
    console.print(describe(result), markup=False, highlight=False)
