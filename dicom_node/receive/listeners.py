"""The node's additional listening processes: forked from the first, and listening on the same socket.

They share the memory of what the first has imported, so each costs some 20 MB.
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
    """Processes that end when their parent ends; if one of them ends by itself, the parent is stopped."""

    def __init__(self, count: int, serve: Callable[[], None], stop: threading.Event) -> None:
        """Fork ``count`` processes; each calls ``serve`` and ends when it returns.

        Call this before the process has threads or connections. ``stop`` is set when one of the processes ends.
        """
        self.ended_early = False
        self._stop = stop
        signal.signal(signal.SIGCHLD, self._on_end)
        gc.collect()
        gc.freeze()  # garbage collection would write to every shared page, and so copy it
        self._pids = [fork(serve) for _ in range(count)]

    def _on_end(self, *_: object) -> None:
        if not self._stop.is_set():
            self.ended_early = True
            set_by_signal(self._stop)

    def stop(self) -> None:
        """Send SIGTERM to the processes and wait; kill those that do not end in time."""
        deadline = time.monotonic() + STOPPING_SECONDS
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)  # the id is not reused before waitpid
        for pid in self._pids:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    log.warning("killed", pid=pid)
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    break
                time.sleep(0.01)


def fork(serve: Callable[[], None]) -> int:
    """Fork a process that calls ``serve``; return its id."""
    parent = os.getpid()
    if pid := os.fork():
        return pid
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        if os.getppid() == parent:  # else the parent died before die_with_parent took effect
            serve()
        status = 0
    except Exception:  # the edge of a process: nothing may escape into the parent's code
        log.exception("listener_broke")
    finally:
        os._exit(status)
