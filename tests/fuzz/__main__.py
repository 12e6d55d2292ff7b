"""The long form of the fuzzing: ``python -m tests.fuzz``; its exit status is 1 if it found problems."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import fuzz


def main() -> int:
    """Send many cases to a node, and print the results; return 1 if there were problems, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="send hostile messages to a hilum node")
    parser.add_argument("--cases", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other numbers make other cases (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hilum-fuzz-") as folder:
        found = fuzz(Path(folder), arguments.cases, arguments.seed)
    for answer, count in sorted(found.answers.items()):
        print(f"{count:7} {answer}")  # noqa: T201 - a command prints
    print(  # noqa: T201 - a command prints
        f"{found.cases} cases in {found.seconds:.0f} s, {found.stored} instances stored, slowest case "
        f"{found.slowest_seconds:.1f} s, peak memory of a process {found.peak_memory_mb:.0f} MB"
    )
    for problem in found.problems:
        print(f"PROBLEM {problem}")  # noqa: T201 - a command prints
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
