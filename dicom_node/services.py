"""The node's two processes: ``hilum node`` receives and dispatches, ``hilum deliver`` sends."""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pydicom.config
import pynetdicom._config
from sqlalchemy import Engine

from dicom_node.beside import Beside
from dicom_node.deliver.commitment import Commitments
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.notifier import Notifications, Notifier
from dicom_node.deliver.outbox import Outbox
from dicom_node.dispatch.dispatcher import Dispatcher
from dicom_node.dispatch.doorbell import Doorbell, make_celery
from dicom_node.errors import Defect, SettingsError
from dicom_node.files import Files, keep_private
from dicom_node.log import configure_logging, get_logger
from dicom_node.receive.intake import Intake
from dicom_node.receive.listeners import Listeners
from dicom_node.receive.scp import Receiver, listen
from dicom_node.record.database import lengthen_log, open_database
from dicom_node.record.retention import Retention
from dicom_node.record.storage import open_storage
from dicom_node.security.access import require_security
from dicom_node.security.audit import AuditTrail
from dicom_node.security.tls import client_context, server_context
from dicom_node.settings import Settings, load_settings
from dicom_node.stopping import stop_on_signals

LISTENING_PROCESSES = 2
"""One Python process uses one core. Two store instances faster than most networks deliver them, within 120 MB of
memory."""

M_ARENA_MAX = -8
"""A parameter of mallopt, from glibc's malloc.h."""

log = get_logger()


def run_node(_: argparse.Namespace) -> int:
    """Receive studies and queue them until told to stop."""
    settings = load_settings()
    configure_logging("node")
    keep_private()
    share_heaps()
    spare_checks()
    doorbell = Doorbell(make_celery(broker_url(settings)))
    require_security(settings.node, tls=settings.tls.enabled)
    tls = server_context(settings.tls)
    stop = stop_on_signals()
    # Migrate once, before several processes try to.
    engine = open_database(settings.database_url, settings.storage.folder)
    open_storage(engine, settings.storage.folder)
    engine.dispose()
    listener = listen(settings.node)
    count = min(LISTENING_PROCESSES, len(os.sched_getaffinity(0)), settings.node.maximum_associations)
    share, share_beside = shares(settings.node.maximum_associations, count)

    def receive_beside() -> None:
        with closing(AuditTrail(settings)) as trail:  # made after the fork, because it has a thread, which forks lose
            receive(settings, trail, listener, tls, share_beside, stop, stop.wait)

    others = Listeners(count - 1, receive_beside, stop)
    log.info("listening", port=listener.getsockname()[1], called_ae_title=settings.node.ae_title)
    with told(settings) as trail:
        engine = open_database(settings.database_url, settings.storage.folder)
        lengthen_log(engine)
        dispatcher = Dispatcher(engine, doorbell, settings)
        retention = Retention(engine, settings)
        removing = Beside("retention", lambda: retention.run(stop), stop)
        try:
            receive(settings, trail, listener, tls, share, stop, lambda: dispatcher.run(stop))
        finally:
            others.stop()
        engine.dispose()
    removing.check()
    if others.ended_early:
        raise Defect("listener-ended", "a listening process ended by itself; the log above may say why")
    log.info("stopped")
    return 0


def shares(associations: int, processes: int) -> tuple[int, int]:
    """Return how many associations the first listening process may have, and each of the others: together, all."""
    beside = associations // processes
    return associations - (processes - 1) * beside, beside


@contextmanager
def told(settings: Settings) -> Iterator[AuditTrail]:
    """Yield the audit trail; write to it that the application starts, and after the ``with``, in any case, stops."""
    with closing(AuditTrail(settings)) as trail:
        trail.started()
        try:
            yield trail
        finally:
            trail.stopped()


def receive(
    settings: Settings,
    trail: AuditTrail,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    share: int,
    stop: threading.Event,
    work: Callable[[], object],
) -> None:
    """Receive studies, by at most ``share`` associations at a time, until ``work`` returns.

    Raises
    ------
    Defect
        The thread that accepts connections broke. It has set ``stop``, with which ``work`` must end.
    """
    engine = open_database(settings.database_url, settings.storage.folder)
    node = settings.node.model_copy(update={"maximum_associations": share})
    files = Files(settings.storage.folder, settings.storage.refuse_free_gib * 2**30)
    commitments = Commitments(engine, settings.delivery)
    receiver = Receiver(Intake(engine), files, node, tls, trail, commitments.on_report)
    receiver.start(stop, listener)
    try:
        work()
    finally:
        receiver.stop()
        engine.dispose()
    receiver.check()


def run_deliver(_: argparse.Namespace) -> int:
    """Send results until told to stop."""
    settings = load_settings()
    configure_logging("deliver")
    keep_private()
    if settings.tls.enabled:
        client_context(settings.tls)  # raises now if something is wrong with the certificate's files
    stop = stop_on_signals()
    engine = open_database(settings.database_url, settings.storage.folder)
    log.info("delivering", destination=", ".join(d.name for d in settings.destinations) or "nowhere")
    notifying = start_notifying(engine, settings, stop)
    with told(settings) as trail:
        commitments = Commitments(engine, settings.delivery)
        Deliverer(Outbox(engine, settings.delivery), settings, trail, commitments).run(stop)
    if notifying:
        notifying.join()
        notifying.check()
    engine.dispose()
    log.info("stopped")
    return 0


def start_notifying(engine: Engine, settings: Settings, stop: threading.Event) -> Beside | None:
    """Start notifying the webhook, if one is set, on its own thread, so that it delays no delivery to a PACS."""
    if not settings.notification.url:
        return None
    notifier = Notifier(Notifications(engine, settings), settings)
    return Beside("webhook", lambda: notifier.run(stop), stop)


def share_heaps() -> None:
    """Let all threads share two heaps; glibc would keep one for each of many threads, with memory they have freed."""
    with suppress(AttributeError):  # other C libraries do not have this option
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def spare_checks() -> None:
    """Switch off the libraries' checks and logs of each value and message in this process.

    They would only warn, and the warnings are silenced. What matters is checked when an instance is stored.
    """
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    pynetdicom._config.LOG_HANDLER_LEVEL = "none"


def broker_url(settings: Settings) -> str:
    """Return the broker's URL; raise SettingsError, which says how to get one, if none is set."""
    if not settings.broker.url:
        raise SettingsError(
            "no-broker", "set broker.url to a Redis (redis://host:6379/0), or use `hilum up`, which runs one"
        )
    return settings.broker.url
