"""Structured logs of events, with an allow-list of fields, so that no patient data can slip in."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any

import structlog
from structlog.typing import EventDict

FIELDS = frozenset(
    {
        "action", "level", "timestamp", "process",
        "study_instance_uid", "sop_instance_uid",
        "association_id", "calling_ae_title", "called_ae_title", "peer_address", "status",
        "job_id", "attempt", "code", "reason", "outcome", "stage",
        "destination", "studies", "instances", "seconds", "bytes", "pid", "port", "exit_code", "url", "error",
        "exception",
    }
)  # fmt: skip
"""The fields that a log line may have. None is for a data set, a patient's name or a file's path."""


class SteadyLogger(structlog.PrintLogger):
    """Drops a line that cannot be written (disk full, reader gone), so that no work fails because of it."""

    def msg(self, message: str) -> None:
        """Print a line."""
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            super().msg(message)

    info = warning = error = critical = msg


def configure_logging(process: str) -> None:
    """Write events to standard error: readable on a terminal, JSON otherwise.

    No line raises an exception, whether Hilum or a library logs it: one that cannot be written is dropped. The
    libraries' own warnings and logs are silenced: they quote values of data sets, or write a traceback of many lines.
    """
    logging.raiseExceptions = False  # else `logging` writes about a line that failed, to where the line could not go
    warnings.filterwarnings("ignore", module=r"pydicom|pynetdicom|highdicom")
    for library in ("pydicom", "pynetdicom", "highdicom", "sqlalchemy"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    output = sys.stderr  # as it is now: Celery replaces it by one that logs, and each line would be logged again
    readable = output.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(where_it_broke),
            structlog.processors.EventRenamer("action"),
            lambda _logger, _method, event: {"process": process, **allowed(event)},
            structlog.dev.ConsoleRenderer(event_key="action") if readable else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: SteadyLogger(output),
        cache_logger_on_first_use=True,
    )
    # Python's own tracebacks quote the messages of exceptions, and libraries quote values in theirs.
    sys.excepthook = lambda *broke: get_logger().critical("crashed", exc_info=broke)
    threading.excepthook = lambda broke: get_logger().critical("thread_crashed", exc_info=broke[:3])


def allowed(event: EventDict) -> EventDict:
    """Drop every field that is not on the list."""
    return {key: value for key, value in event.items() if key in FIELDS}


def where_it_broke(exc_info: Any) -> str:
    """Return the type of an exception and the code lines it passed, without its message.

    Messages of libraries may quote values of a data set.
    """
    kind, _, traceback = exc_info
    lines = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        lines.append(f"{code.co_filename.rsplit('/', 2)[-1]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return f"{kind.__name__} at " + " < ".join(reversed(lines[-6:]))


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; each entry point must have called `configure_logging` before it logs."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
