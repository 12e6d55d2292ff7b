"""The worker's sub-commands of ``hilum``."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from dicom_node.cli import Command
from dicom_node.commands import add_json


def add_analyze(parser: ArgumentParser) -> None:
    """Arguments of ``hilum analyze``."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a study's DICOM files, also in subfolders")
    parser.add_argument(
        "--out",
        metavar="OUT",
        type=Path,
        required=True,
        help="where SEG, SR, key image and results.json go; an earlier result there is replaced",
    )
    parser.add_argument(
        "--prior",
        metavar="FOLDER",
        type=Path,
        action="append",
        default=[],
        help="an earlier study of the patient to measure and compare with; may be given several times",
    )


def add_demo(parser: ArgumentParser) -> None:
    """Arguments of ``hilum demo``."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="a real study (default: a phantom)")
    parser.add_argument("--out", metavar="OUT", type=Path, default=Path("demo-output"), help="default: %(default)s")


def add_export(parser: ArgumentParser) -> None:
    """Arguments of ``hilum export``."""
    parser.add_argument(
        "weights",
        metavar="FILE",
        type=Path,
        help="a safetensors file with its card beside it, as `hilum train` writes it",
    )


ANALYZE = """\
  hilum analyze STUDY --out RESULT
  hilum analyze STUDY --out RESULT --prior EARLIER    compares the two

It exits with 1 if the study could not be measured; RESULT then has a report that says why.
"""
DEMO = """\
  hilum demo
  hilum demo STUDY --out RESULT

It starts a small PACS and Hilum on this machine, sends the study from one to the other, and stops both. The key image
and all objects lie in RESULT then (demo-output).
"""
MODELS = """\
It exits with 1 if a file is missing or damaged, or if a worker would refuse it for another reason.
"""
EXPORT = """\
  hilum export RUNS/own/split-0/weights.safetensors

The network in OpenVINO's format (.xml, .bin) lies beside FILE then; move the four files together.
"""

WORKER = """\
On one machine `hilum up` starts it. Alone it needs the node's broker.url, record (database.url) and storage folder; for
several on a machine set worker.threads, as each uses every core. Ctrl-C or SIGTERM stops it after its study.
"""

COMMANDS = (
    Command(
        "worker",
        "take jobs from the queue and measure the studies",
        "worker.tasks:run_worker",
        extra="worker",
        more=WORKER,
    ),
    Command(
        "analyze",
        "measure a folder's study without node or queue",
        "worker.analyze:run_analyze",
        add_analyze,
        "worker",
        ANALYZE,
    ),
    Command(
        "demo",
        "run everything once on a phantom or a study and show the results",
        "worker.demo:run_demo",
        add_demo,
        "worker",
        DEMO,
    ),
    Command(
        "models",
        "list the networks' weights and verify them",
        "worker.models.commands:run_models",
        add_json,
        "worker",
        MODELS,
    ),
    Command(
        "export",
        "convert a network's weights for CPU workers, which have no torch",
        "worker.models.export:run_export",
        add_export,
        "torch",
        EXPORT,
    ),
)
