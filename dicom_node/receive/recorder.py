"""Stored instances enter the record together: who comes first takes along all that wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, OperationalError

from dicom_node.files import sync_folder
from dicom_node.receive.intake import Arrival, Intake
from dicom_node.study import Reception


@dataclass(eq=False)
class Waiting:
    """An instance that waits for the record, and what came of it."""

    arrival: Arrival
    outcome: Reception | OSError | DBAPIError | None = None


class Recorder:
    """Syncs a folder once and commits once for all instances that associations have brought meanwhile."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._waiting: deque[Waiting] = deque()
        self._turn = threading.Lock()

    def record(self, arrival: Arrival) -> Reception:
        """Make the name of an instance's file durable, then its row; return what its arrival means.

        Raises
        ------
        OSError, DBAPIError
            Disk or database failed; the instance is not in the record.
        """
        mine = Waiting(arrival)
        self._waiting.append(mine)
        with self._turn:
            if mine.outcome is None:
                self._record_all([self._waiting.popleft() for _ in range(len(self._waiting))])
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        assert mine.outcome is not None  # noqa: S101 - it was recorded above, by this thread or one before
        return mine.outcome

    def _record_all(self, batch: Sequence[Waiting]) -> None:
        try:
            for folder in {one.arrival.instance.path.parent for one in batch}:
                sync_folder(folder)
            receptions = self._intake.record_all([one.arrival for one in batch])
        except (OSError, DBAPIError) as error:
            # A database that does not answer is no instance's fault, and each alone would wait as long for it again.
            if len(batch) == 1 or is_silence(error):
                for one in batch:
                    one.outcome = error
                return
            for one in batch:  # the failure may be one instance's own; the others must not suffer for it
                self._record_all([one])
        else:
            for one, reception in zip(batch, receptions, strict=True):
                one.outcome = reception


def is_silence(error: OSError | DBAPIError) -> bool:
    """Whether a database said nothing: no connection was to be had, or it timed out.

    psycopg has OperationalErrors for deadlocks and the like, too; with an SQLSTATE, the server has answered.
    """
    return isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) is None
