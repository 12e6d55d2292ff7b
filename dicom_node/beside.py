"""Work that repeats until the process is told to stop, and threads beside the main one, whose failure stops it."""

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
    """Log a failure from outside (a PassingFailure, or one of the database or the system), and go on."""
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
    """Call ``turn`` again and again until told to stop, at once for the first time.

    A failure from outside (see `failures_logged`) ends a turn, not the process.

    Parameters
    ----------
    seconds : float
        The pause between turns.
    event : str
        The event that is logged when a turn fails.
    begin : callable, optional
        Called before the first turn, and again each time until it succeeds.
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
    """A thread that starts at once; if its work raises an exception, it tells the process to stop.

    Otherwise the process would look alive, but no longer ring, send or remove.
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
        except BaseException:  # the outermost frame of a thread: whatever failed, the process must not go on without it
            self._broke = True
            self._stop_process.set()
            log.exception("thread_broke", stage=self.name)

    def check(self) -> None:
        """Raise the error that ends the process if the work raised an exception.

        Raises
        ------
        Defect
        """
        if self._broke:
            raise Defect("thread-broke", "a part of this process broke; the log above says where")
