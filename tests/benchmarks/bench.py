"""``hilum bench``: Hilum compared with its peers, in one run on one machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from types import ModuleType
from typing import Any

from tests.benchmarks import end_to_end, growth, load, memory, pipeline, receive, results, segmenting
from tests.benchmarks.document import table, write_document
from tests.benchmarks.machine import commit, describe_machine

BENCHMARKS = {
    "end_to_end": end_to_end,
    "growth": growth,
    "load": load,
    "memory": memory,
    "pipeline": pipeline,
    "receive": receive,
    "results": results,
    "segmenting": segmenting,
}


def run_bench(arguments: argparse.Namespace) -> int:
    """Run benchmarks and print their tables; write the JSON file and the documents if asked to."""
    names = arguments.benchmarks or sorted(BENCHMARKS)
    found = {name: run(name, BENCHMARKS[name], arguments.rounds) for name in names}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.write_docs:
        write_document(found, BENCHMARKS)
    return 0


def run(name: str, benchmark: ModuleType, rounds: int) -> dict[str, Any]:
    """Run one benchmark, showing each table as soon as it is measured."""
    machine = describe_machine()
    print(f"{name}: {rounds} rounds", file=sys.stderr)  # noqa: T201 - a command prints
    comparisons = []
    for comparison in benchmark.measure(rounds):
        comparisons.append(comparison.as_json())
        print(table(comparisons[-1]), end="\n\n", flush=True)  # noqa: T201 - a command prints
    return {
        "title": benchmark.TITLE,
        "text": benchmark.TEXT,
        "measured_at": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "rounds": rounds,
        "machine": machine,
        "comparisons": comparisons,
    }
