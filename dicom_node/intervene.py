"""``hilum retry``, ``resend``, ``redirect`` and ``remove``: interventions by hand."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from dicom_node.deliver.notifier import Notifications
from dicom_node.deliver.outbox import Outbox
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import SettingsError
from dicom_node.record.retention import Retention
from dicom_node.record.studies import find_study, open_record
from dicom_node.settings import Settings


def run_retry(arguments: argparse.Namespace) -> int:
    """Queue a study's failed or given-up job again, and make its unsent deliveries and notifications due now."""
    settings, engine = open_record("retry")
    find_study(engine, arguments.study)
    measured = Jobs(engine, settings.jobs).retry(arguments.study)
    sent = Outbox(engine, settings.delivery).resend(arguments.study, waiting_too=True)
    told = Notifications(engine, settings).retry(arguments.study)
    print(f"{measured} jobs queued again; to be sent again: {sent} deliveries, {told} notifications")
    return 0


def run_resend(arguments: argparse.Namespace) -> int:
    """Make rejected deliveries due now; unless a destination is named, also all unsent notifications."""
    settings, engine = open_record("resend")
    if arguments.study:
        find_study(engine, arguments.study)
    if arguments.destination:
        require_destination(arguments.destination, settings)
    count = Outbox(engine, settings.delivery).resend(arguments.study, arguments.destination)
    told = 0 if arguments.destination else Notifications(engine, settings).retry(arguments.study)
    print(f"to be sent again: {count} refused deliveries, {told} notifications")
    return 0


def run_redirect(arguments: argparse.Namespace) -> int:
    """Make the unsent deliveries of a destination that is gone due at another.

    One that is still in the settings gets its results, when it is back. What waits for it is mostly due at the other as
    well, so redirecting would delete it.
    """
    settings, engine = open_record("redirect")
    require_destination(arguments.to, settings)
    outbox = Outbox(engine, settings.delivery)
    if arguments.destination in names_in(settings):
        raise SettingsError(
            "still-a-destination",
            f"{arguments.destination} is one of the [[destinations]], so what waits for it is sent when it answers; "
            "if it never will, remove it there and restart Hilum first",
        )
    require_one_of(outbox.destinations(), arguments.destination)
    count = outbox.redirect(arguments.destination, arguments.to)
    print(f"{count} deliveries will go to {arguments.to}")
    return 0


def require_destination(name: str, settings: Settings) -> None:
    """Raise SettingsError unless a destination of the settings has this name."""
    require_one_of(names_in(settings), name)


def names_in(settings: Settings) -> list[str]:
    """Return the names of the destinations in the settings."""
    return [destination.name for destination in settings.destinations]


def require_one_of(names: Collection[str], name: str) -> None:
    """Raise SettingsError unless a destination's name is one of these."""
    if name not in names:
        raise SettingsError("unknown-destination", f"expected one of {', '.join(sorted(names)) or 'none'}, got {name}")


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove the files of a study whose answer is delivered; return 1 if they may not go yet, or if files are left."""
    settings, engine = open_record("remove")
    find_study(engine, arguments.study)
    retention = Retention(engine, settings)
    try:
        if not retention.remove(arguments.study):
            print(f"nothing removed: {', and '.join(retention.why_kept(arguments.study)) or 'try again'}")
            return 1
    except OSError as error:
        reason = error.strerror or type(error).__name__
        print(f"removed from the record, but files are left ({reason}); the node tries again every hour")
        return 1
    print("removed; the record still says what happened to the study")
    return 0
