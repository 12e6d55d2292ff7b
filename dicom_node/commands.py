"""The node's sub-commands of ``hilum``."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from dicom_node.cli import CHECKOUT, Command

BENCHMARKS = ("end_to_end", "growth", "load", "memory", "pipeline", "receive", "results", "segmenting")


def add_json(parser: ArgumentParser) -> None:
    """Add the argument ``--json``, for scripts."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_peer(parser: ArgumentParser) -> None:
    """Add the arguments for a peer: the name of a destination, or AE_TITLE@HOST:PORT, with or without TLS."""
    parser.add_argument("peer", metavar="PEER", help="a destination's name, or AE_TITLE@HOST:PORT")
    parser.add_argument(
        "--tls", action="store_true", help="speak TLS to AE_TITLE@HOST:PORT; a destination's own setting applies"
    )


def add_send(parser: ArgumentParser) -> None:
    """Arguments of ``hilum send``."""
    add_peer(parser)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="DICOM files, also in subfolders")


def add_studies(parser: ArgumentParser) -> None:
    """Arguments of ``hilum studies``."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("study", metavar="STUDY_INSTANCE_UID", nargs="?", help="show everything known about one study")
    which.add_argument("--accession", action="store_true", help="list those with an Accession Number; prompts for it")
    parser.add_argument(
        "--limit", type=number, default=50, help="how many to list, newest first (default: %(default)s)"
    )
    add_json(parser)


def number(text: str) -> int:
    """Return the number of studies to list, which is at least 1."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return int(text)


def add_study(parser: ArgumentParser) -> None:
    """Add the argument for a study."""
    parser.add_argument("study", metavar="STUDY_INSTANCE_UID", help="as `hilum studies` lists it")


def add_resend(parser: ArgumentParser) -> None:
    """Arguments of ``hilum resend``."""
    parser.add_argument(
        "study", metavar="STUDY_INSTANCE_UID", nargs="?", help="only what belongs to this study (default: all)"
    )
    parser.add_argument("--destination", metavar="NAME", help="only what this PACS refused")


def add_redirect(parser: ArgumentParser) -> None:
    """Arguments of ``hilum redirect``."""
    parser.add_argument("destination", metavar="FROM", help="a PACS that is gone or was renamed")
    parser.add_argument("to", metavar="TO", help="one of the [[destinations]]; nothing is sent to it twice")


def add_settings(parser: ArgumentParser) -> None:
    """Arguments of ``hilum settings``."""
    parser.add_argument("--defaults", action="store_true", help="print the defaults, a start for your own hilum.toml")


def add_bench(parser: ArgumentParser) -> None:
    """Arguments of ``hilum bench``."""
    names = ", ".join(BENCHMARKS)
    parser.add_argument("benchmarks", metavar="BENCHMARK", nargs="*", type=benchmark, help=f"{names} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all values as JSON")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md")


def benchmark(name: str) -> str:
    """Return a benchmark's name (with `choices`, argparse would refuse to run without any name)."""
    if name not in BENCHMARKS:
        raise ArgumentTypeError(f"expected one of {', '.join(BENCHMARKS)}, got {name}")
    return name


UP = """\
Starts node, worker and deliver, and a Redis unless broker.url names one. Ctrl-C stops them all.
"""
NODE = """\
On one machine `hilum up` starts it, with a worker, deliver and a Redis. Alone it needs broker.url. Node, workers and
deliver share that Redis, the record (database.url) and the storage folder. Ctrl-C or SIGTERM stops it.
"""
DELIVER = """\
On one machine `hilum up` starts it. Alone it needs the node's record (database.url) and storage folder. Ctrl-C or
SIGTERM stops it; what is not sent yet is sent after the next start.
"""
CHECK = """\
It stores nothing, here or in a PACS, which it sends a C-ECHO. It exits with 1 if a test fails.
"""
SETTINGS = """\
  hilum settings --defaults > hilum.toml    a start for your own
  hilum settings                            what is in force now, without passwords
"""
ECHO = """\
  hilum echo "main PACS"
  hilum echo ORTHANC@127.0.0.1:4242
"""
SEND = """\
  hilum send HILUM@127.0.0.1:11112 FOLDER    tries Hilum with a study from the PACS
  hilum send "main PACS" FOLDER

It says what the peer answered, and exits with 1 if the peer did not take every file.
"""
STUDIES = """\
  hilum studies
  hilum studies 1.2.840.113619.2.5.1762583153 --json
"""
RETRY = """\
Use it once the cause is fixed. It queues the study's job again if that failed or was given up, and sends at once what
waits for a PACS or was refused by it. What a PACS has accepted is not sent again.
"""
RESEND = """\
  hilum resend                           everything that any PACS or the webhook refused
  hilum resend --destination "main PACS"
  hilum resend 1.2.840.113619.2.5.1762583153

What waits for a PACS that does not answer needs no command: it is sent as soon as the PACS answers.
"""
REDIRECT = """\
  hilum redirect "old PACS" "main PACS"

Remove FROM from the settings first, and restart Hilum.
"""
REMOVE = """\
Images and results are removed; the record still says what happened to the study. Nothing is removed before every PACS
has accepted every result. storage.keep_days does the same for all studies, after so many days.
"""
BENCH = """\
  hilum bench receive memory --rounds 3

It needs a checkout where deploy/test has run, which installs Orthanc and DCMTK, the peers.
Figures are ratios to peers that ran in turns with Hilum, so that a busy machine slows both.
"""

COMMANDS = (
    Command("up", "run all of Hilum on this machine", "dicom_node.up:run_up", more=UP),
    Command("node", "receive studies by C-STORE and queue them", "dicom_node.services:run_node", more=NODE),
    Command("deliver", "send results to the PACS", "dicom_node.services:run_deliver", more=DELIVER),
    Command(
        "settings",
        "print every setting with its meaning, as a hilum.toml",
        "dicom_node.settings.file:run_settings",
        add_settings,
        more=SETTINGS,
    ),
    Command(
        "check",
        "test settings, access, disk, database, broker, every PACS",
        "dicom_node.check:run_check",
        add_json,
        more=CHECK,
    ),
    Command("echo", "test a peer with C-ECHO, or a DICOMweb service", "dicom_node.peers:run_echo", add_peer, more=ECHO),
    Command("send", "send DICOM files to a peer", "dicom_node.peers:run_send", add_send, more=SEND),
    Command(
        "studies",
        "list studies, or show one: states, reasons, deliveries",
        "dicom_node.listing:run_studies",
        add_studies,
        more=STUDIES,
    ),
    Command(
        "retry",
        "try again what failed for a study: measuring, sending",
        "dicom_node.intervene:run_retry",
        add_study,
        more=RETRY,
    ),
    Command(
        "resend",
        "send again what a PACS refused, once the PACS is fixed",
        "dicom_node.intervene:run_resend",
        add_resend,
        more=RESEND,
    ),
    Command(
        "redirect",
        "send to one PACS what another has not accepted",
        "dicom_node.intervene:run_redirect",
        add_redirect,
        more=REDIRECT,
    ),
    Command(
        "remove", "remove the files of a delivered study", "dicom_node.intervene:run_remove", add_study, more=REMOVE
    ),
    Command(
        "bench",
        "measure Hilum and its peers",
        "tests.benchmarks.bench:run_bench",
        add_bench,
        extra=CHECKOUT,
        more=BENCH,
    ),
)
