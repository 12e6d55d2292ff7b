"""A node's other listening processes: forked from the first, and waiting at the same socket.

They share what the first has imported, so each costs some 20 MB.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable

from dicom_node.log import get_logger
from dicom_node.stopping import die_with_parent, set_by_signal

STOPPING_SECONDS = 10.0

log = get_logger()


class Listeners:
    """Processes that end with their parent, and whose end ends it."""

    def __init__(self, count: int, serve: Callable[[], None], stop: threading.Event) -> None:
        """Fork the processes; each calls ``serve`` and ends when it returns.

        Call it before this process has threads or connections. ``stop`` is set when one of them ends.
        """
        self.ended_early = False
        self._stop = stop
        signal.signal(signal.SIGCHLD, self._on_end)
        gc.collect()
        gc.freeze()  # the collector would write to, and so copy, every page the processes share
        self._pids = [fork(serve) for _ in range(count)]

    def _on_end(self, *_: object) -> None:
        if not self._stop.is_set():
            self.ended_early = True
            set_by_signal(self._stop)

    def stop(self) -> None:
        """Tell the processes to end, and wait; one that does not listen is killed."""
        deadline = time.monotonic() + STOPPING_SECONDS
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)  # the number is its own until it is waited for
        for pid in self._pids:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    log.warning("killed", pid=pid)
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    break
                time.sleep(0.01)


def fork(serve: Callable[[], None]) -> int:
    """Start a process that calls a function; return its id."""
    parent = os.getpid()
    if pid := os.fork():
        return pid
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        if os.getppid() == parent:  # else it died before we asked to be told
            serve()
        status = 0
    except Exception:  # the edge of a process: nothing may escape into the parent's code
        log.exception("listener_broke")
    finally:
        os._exit(status)
