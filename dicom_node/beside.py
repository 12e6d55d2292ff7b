"""Work that goes on until the process is told to stop, and work beside the main thread, whose failure ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from dicom_node.errors import Defect, PassingFailure
from dicom_node.log import get_logger

log = get_logger()


@contextmanager
def failures_logged(event: str, **fields: str) -> Iterator[None]:
    """Let a failure outside pass, with a line in the log."""
    try:
        yield
    except PassingFailure as error:
        log.warning(event, code=error.code, reason=error.message, **fields)
    except DBAPIError as error:
        log.warning(event, code="database", error=type(error.orig).__name__, **fields)
    except OSError as error:
        log.warning(event, code="system", error=type(error).__name__, **fields)


def take_turns(
    turn: Callable[[], object],
    stop: threading.Event,
    seconds: float,
    event: str,
    begin: Callable[[], object] = lambda: None,
) -> None:
    """Take turns until told to stop, the first at once; a failure outside costs a turn, not the process.

    Parameters
    ----------
    seconds : float
        The pause between turns.
    event : str
        What the log calls a turn that failed.
    begin : callable, optional
        What comes before the first turn; it is tried again until it succeeds.
    """
    has_begun = False
    while not stop.is_set():
        with failures_logged(event):
            if not has_begun:
                begin()
                has_begun = True
            turn()
        stop.wait(seconds)


class Beside(threading.Thread):
    """A thread that is started at once; should its work break, the process is told to stop.

    Else a process would go on that looks alive and no longer rings, sends or removes.
    """

    def __init__(self, name: str, work: Callable[[], object], stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._stop_process = stop
        self._broke = False
        self.start()

    def run(self) -> None:
        """Do the work."""
        try:
            self._work()
        except Exception:  # the edge of a thread: whatever broke, the process must not go on without it
            log.exception("thread_broke", stage=self.name)
            self._broke = True
            self._stop_process.set()

    def check(self) -> None:
        """Raise what the process ends with if the work broke.

        Raises
        ------
        Defect
        """
        if self._broke:
            raise Defect("thread-broke", "a part of this process broke; the log above says where")
