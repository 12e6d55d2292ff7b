"""Let one writer at a time use the record, among all threads and processes on this machine."""

from __future__ import annotations

import fcntl
import os
import threading
from types import TracebackType

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from dicom_node.files import PRIVATE_FILE


class Turn:
    """A lock for writers of the record; use it in a ``with``.

    SQLite has a single writer, and makes the others sleep and try again; with this lock they wait in a queue instead.
    PostgreSQL has queues of its own, so there only the threads of this process take turns. If the database does not
    answer a writer, the threads that wait at that moment fail with it: one after the other, each would wait as long.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._silences = 0
        self._file: int | None = None
        if engine.dialect.name == "sqlite":
            self._file = os.open(f"{engine.url.database}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)

    def __enter__(self) -> None:
        before = self._silences
        self._lock.acquire()
        if self._silences != before:
            self._lock.release()
            raise OperationalError(None, None, TimeoutError("the database did not answer while this waited"))
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError:  # such as ENOLCK; the other threads must not wait forever
            self._lock.release()
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._silences += is_silence(error)
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._lock.release()


def is_silence(error: BaseException | None) -> bool:
    """Whether the database did not answer: there was no connection, or it timed out.

    psycopg raises an OperationalError for deadlocks and the like too, but with an SQLSTATE, which only an answering
    server sends. SQLite has no SQLSTATE: each of its OperationalErrors counts as no answer.
    """
    return isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) is None
