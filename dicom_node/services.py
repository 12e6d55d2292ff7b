"""The node's two processes: ``hilum node`` receives and dispatches, ``hilum deliver`` sends."""

from __future__ import annotations

import argparse
import signal
import threading

import pydicom.config
import pynetdicom._config

from dicom_node.database import open_database
from dicom_node.dispatch import Dispatcher
from dicom_node.doorbell import Doorbell, make_celery
from dicom_node.errors import SettingsError
from dicom_node.files import Files
from dicom_node.intake import Intake
from dicom_node.log import configure_logging, get_logger
from dicom_node.outbox import Outbox
from dicom_node.scp import Receiver
from dicom_node.scu import Deliverer
from dicom_node.settings import Settings, load_settings

log = get_logger()


def run_node(_: argparse.Namespace) -> int:
    """Receive studies and queue them until told to stop."""
    settings = load_settings()
    configure_logging("node")
    spare_checks()
    stop = stop_on_signals()
    engine = open_database(settings.database_url)
    dispatcher = Dispatcher(engine, Doorbell(make_celery(broker_url(settings))), settings)
    receiver = Receiver(Intake(engine), Files(settings.storage.folder), settings.node)
    receiver.start()
    log.info("listening", port=settings.node.port, called_ae_title=settings.node.ae_title)
    dispatcher.run(stop)
    receiver.stop()
    engine.dispose()
    log.info("stopped")
    return 0


def run_deliver(_: argparse.Namespace) -> int:
    """Send results until told to stop."""
    settings = load_settings()
    configure_logging("deliver")
    stop = stop_on_signals()
    engine = open_database(settings.database_url)
    log.info("delivering", destination=", ".join(d.name for d in settings.destinations) or "nowhere")
    Deliverer(Outbox(engine, settings.delivery), settings).run(stop)
    engine.dispose()
    log.info("stopped")
    return 0


def spare_checks() -> None:
    """Switch off the libraries' checks and logs of each value and message in this process.

    They would only warn, and the warnings are silenced; what decides is checked where an instance is stored.
    """
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    pynetdicom._config.LOG_HANDLER_LEVEL = "none"


def broker_url(settings: Settings) -> str:
    """Return the broker's URL, or say how to get one."""
    if not settings.broker.url:
        raise SettingsError(
            "no-broker", "set broker.url to a Redis (redis://host:6379/0), or use `hilum up`, which runs one"
        )
    return settings.broker.url


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
