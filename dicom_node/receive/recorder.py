"""Group commit: the thread whose turn it is records all instances that wait at that moment."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.files import sync
from dicom_node.receive.intake import Arrival, Intake
from dicom_node.receive.turn import is_silence
from dicom_node.study import Reception


@dataclass(eq=False)
class Waiting:
    """An instance that waits to be recorded, and the outcome."""

    arrival: Arrival
    outcome: Reception | Exception | None = None


class Recorder:
    """Records the instances that wait, of all associations, with one sync of each folder and one commit."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._waiting: deque[Waiting] = deque()
        self._turn = threading.Lock()

    def record(self, arrival: Arrival) -> Reception:
        """Make the name of an instance's file durable, then record the instance; return what its arrival meant.

        Raises
        ------
        OSError, DBAPIError
            Disk or database failed; the instance is not in the record.
        Exception
            Hilum has a defect that this instance meets; it is not in the record either.
        """
        mine = Waiting(arrival)
        self._waiting.append(mine)
        with self._turn:
            if mine.outcome is None:
                self._record_all([self._waiting.popleft() for _ in range(len(self._waiting))])
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        assert mine.outcome is not None  # noqa: S101 - set above, or by a thread whose turn came earlier
        return mine.outcome

    def _record_all(self, batch: Sequence[Waiting]) -> None:
        try:
            for folder in {one.arrival.instance.path.parent for one in batch}:
                sync(folder)
            receptions = self._intake.record_all([one.arrival for one in batch])
        except Exception as error:  # a defect too: left without an outcome, the others would fail with it
            # If the database does not answer, trying each instance alone would only wait as long for each again.
            if len(batch) == 1 or is_silence(error):
                for one in batch:
                    one.outcome = error
                return
            for one in batch:  # one instance may have caused the failure: it must not affect the others
                self._record_all([one])
        else:
            for one, reception in zip(batch, receptions, strict=True):
                one.outcome = reception
