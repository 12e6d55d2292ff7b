"""Let one writer at a time use the record, among all threads and processes on this machine."""

from __future__ import annotations

import fcntl
import os
import threading
from types import TracebackType

from sqlalchemy import Engine

from dicom_node.files import PRIVATE_FILE


class Turn:
    """A lock for writers of the record; use it in a ``with``.

    SQLite has a single writer, and makes the others sleep and try again; with this lock they wait in a queue instead.
    PostgreSQL has queues of its own, so there only the threads of this process take turns.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._file: int | None = None
        if engine.dialect.name == "sqlite":
            self._file = os.open(f"{engine.url.database}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError:  # such as ENOLCK; the other threads must not wait forever
            self._lock.release()
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._lock.release()
