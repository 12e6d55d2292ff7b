"""The command line ``hilum``: each package adds its sub-commands, which are imported only when called."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from pathlib import Path

from dicom_node.errors import HilumError

GROUP = "hilum.commands"
CHECKOUT = "checkout"
"""The extra of commands that live among the tests, which are not installed."""


@dataclass(frozen=True)
class Command:
    """A sub-command.

    ``run`` is "module:function", imported when called; the function takes the parsed arguments and returns
    the exit status. ``extra`` names the part of Hilum it needs, such as ``worker``, or CHECKOUT. ``more`` is what its
    ``--help`` says after the arguments: examples, and what a reader of the arguments alone would not expect.
    """

    name: str
    help: str
    run: str
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    extra: str = ""
    more: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command; return its exit status."""
    open_missing_streams()
    parser = argparse.ArgumentParser(
        prog="hilum",
        description="A DICOM node beside a PACS that measures how much of the lung is infected. Not a medical device.",
        epilog="Settings come from hilum.toml, HILUM_* variables and secret files; `hilum check` tests them.",
    )
    parser.add_argument("--version", action="version", version=f"hilum {version('hilum')}")
    parser.add_argument("--config", metavar="FILE", help="settings file (default: ./hilum.toml, /etc/hilum/hilum.toml)")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands():
        sub = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            epilog=command.more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(command=command)
    parsed = parser.parse_args(arguments)
    if parsed.config:
        os.environ["HILUM_CONFIG"] = parsed.config  # also for the processes that a command starts
    try:
        return run(parsed.command, parsed)
    except HilumError as error:
        print(f"hilum: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        if not reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout once more
        return 141
    except KeyboardInterrupt:
        return 130


def open_missing_streams() -> None:
    """Send output to nowhere if it was closed, as in ``hilum check >&-``, and not into the next file opened."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as we run


def commands() -> Iterator[Command]:
    """Yield the sub-commands of every installed package, the node's first."""
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name != "dicom_node", e.name != "worker", e.name)):
        yield from entry.load().COMMANDS


def reader_is_gone() -> bool:
    """Whether the reader of the output has closed it, as in ``hilum studies | head``."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def run(command: Command, parsed: argparse.Namespace) -> int:
    """Import and call a sub-command's function."""
    module, _, function = command.run.partition(":")
    try:
        call = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        is_our_own = (error.name or "").split(".")[0] == module.split(".")[0]
        if command.extra == CHECKOUT:
            advice = "run it in a checkout of Hilum with: pip install --editable '.[test]'"
        elif command.extra and not is_our_own:
            advice = f"run in a checkout of Hilum: pip install -c constraints.txt '.[{command.extra}]'"
        else:
            raise
        print(f"hilum: `hilum {command.name}` needs {error.name}; {advice}", file=sys.stderr)
        return 1
    status: int = call(parsed)
    sys.stdout.flush()
    return status
