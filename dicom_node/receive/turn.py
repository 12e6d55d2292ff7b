"""One writer at a time, over all threads and processes that share a record on this machine."""

from __future__ import annotations

import fcntl
import os
import threading
from types import TracebackType

from sqlalchemy import Engine

from dicom_node.files import PRIVATE_FILE


class Turn:
    """A queue before SQLite's single writer, which itself makes the others sleep and try again; use it in a ``with``.

    PostgreSQL has queues of its own: there only the threads of this process take turns.
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
        except OSError:  # ENOLCK, for one; the others must not wait for ever
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
