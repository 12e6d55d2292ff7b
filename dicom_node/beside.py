"""Work beside the main thread: its failure ends the process, which is then started again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dicom_node.errors import Defect
from dicom_node.log import get_logger

log = get_logger()


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
