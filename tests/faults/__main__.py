"""``python -m tests.faults``: a long storm, its verdict, and docs/reliability.md."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.document import write_documents
from tests.faults.storm import Storm, run_storm


def main() -> int:
    """Run a storm on each database; return 1 if a verdict is not clean, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--studies", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--senders", type=int, default=8, help="that send at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what breaks when (default: %(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--write-docs", action="store_true", help="write docs/reliability.md and .json")
    arguments = parser.parse_args()
    for library in ("pynetdicom", "pydicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they log each fault
    databases = ("sqlite", "postgresql") if arguments.database == "both" else (arguments.database,)
    clean = True
    for database in databases:
        storm = run(database, arguments)
        clean = clean and storm.verdict is not None and storm.verdict.clean
        sys.stdout.write(f"{storm}\n")
        if arguments.write_docs:
            write_documents(storm)
    return 0 if clean else 1


def run(database: str, arguments: argparse.Namespace) -> Storm:
    """Run the storm on one database; its logs, record and storage are kept unless the verdict is clean."""

    def say(line: str) -> None:
        sys.stderr.write(f"{database}: {line}\n")

    folder = Path(tempfile.mkdtemp(prefix="hilum-faults-"))
    say(f"logs, record and storage: {folder}")
    storm = run_storm(
        folder,
        database,
        studies=arguments.studies,
        kills=arguments.kills,
        senders=arguments.senders,
        seed=arguments.seed,
        say=say,
    )
    if storm.verdict and storm.verdict.clean:
        shutil.rmtree(folder)
    return storm


if __name__ == "__main__":
    sys.exit(main())
