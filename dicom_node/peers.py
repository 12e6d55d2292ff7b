"""``hilum echo`` and ``hilum send``: testing a peer by hand."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from dicom_node.deliver.destination import send_files, verify
from dicom_node.deliver.outgoing import Answer, Outcome, Outgoing, read_outgoing
from dicom_node.errors import NotForHilum, SettingsError
from dicom_node.folder import files_in, no_dicom
from dicom_node.headers import UNREADABLE, why_unread
from dicom_node.log import configure_logging
from dicom_node.settings import AnyDestination, Destination, Settings, load_settings
from dicom_node.terminal import progress_cleared, show_progress

SPELLED_OUT = re.compile(r"(?P<ae_title>[^@]{1,16})@(?P<host>.+):(?P<port>\d{1,5})")
LAST_PORT = 65535


def run_echo(arguments: argparse.Namespace) -> int:
    """Send a peer a C-ECHO, or a DICOMweb service a request without an object."""
    settings = load_settings()
    configure_logging("echo")
    peer = find_peer(arguments.peer, settings, tls=arguments.tls)
    print(f"{peer.name}: {verify(peer, settings)}")
    return 0


def run_send(arguments: argparse.Namespace) -> int:
    """Send every DICOM file of a folder; return 1 if the peer did not take them all."""
    settings = load_settings()
    configure_logging("send")
    objects, others = objects_in(arguments.folder)
    answers: Counter[Answer] = Counter()
    try:
        send_with_progress(find_peer(arguments.peer, settings, tls=arguments.tls), settings, objects, answers)
    finally:  # also after an error: the answers so far hold
        print_answers(answers, others)
    return 0 if all(answer.outcome is Outcome.TAKEN for answer in answers) else 1


def objects_in(folder: Path) -> tuple[list[Outgoing], int]:
    """Return the DICOM objects of a folder, and how many of its files are not DICOM or damaged.

    Raises
    ------
    NotForHilum
        There is no DICOM object, or a file cannot be read: nobody would notice that it was left out.
    """
    objects, others = [], 0
    for path in files_in(folder):
        try:
            objects.append(read_outgoing(path))
        except UNREADABLE as error:
            if why := why_unread(error):
                raise NotForHilum("file-unreadable", f"{path} cannot be read: {why}") from error
            others += 1
    if not objects:
        raise no_dicom(folder, others)
    return objects, others


def print_answers(answers: Counter[Answer], others: int) -> None:
    """Print how often each answer came, and how many files were not sent."""
    for answer, count in answers.items():
        taken = answer.outcome is Outcome.TAKEN
        print(f"{count} x {answer.status:#06x} taken" if taken else f"{count} x not taken: {answer.message}")
    if others:
        print(f"{others} x not sent: no DICOM file, or a damaged one")


def send_with_progress(
    peer: AnyDestination, settings: Settings, objects: list[Outgoing], answers: Counter[Answer]
) -> None:
    """Send objects and count the answers; show progress if standard error is a terminal."""

    def on_answer(answer: Answer) -> None:
        answers[answer] += 1
        show_progress(f"{answers.total()} of {len(objects)}")

    with progress_cleared():
        send_files(peer, settings, objects, on_answer)


def find_peer(name: str, settings: Settings, *, tls: bool) -> AnyDestination:
    """Return the destination with this name, or the one that AE_TITLE@HOST:PORT spells out, with TLS if ``tls``.

    Raises
    ------
    SettingsError
        The name is neither, or there is to be TLS without certificates in the settings.
    """
    if tls and not settings.tls.enabled:
        raise SettingsError("no-tls", "--tls needs [tls] in the settings, with Hilum's certificate")
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    match = SPELLED_OUT.fullmatch(name)
    if match and 0 < int(match["port"]) <= LAST_PORT:
        spelled_out = {"name": name[:64], **match.groupdict(), "tls": tls}
        with suppress(ValidationError):
            return Destination.model_validate(spelled_out)
    known = ", ".join(d.name for d in settings.destinations) or "none"
    raise SettingsError("unknown-peer", f"expected AE_TITLE@HOST:PORT or a destination's name ({known}), got {name}")
