"""Writers of the record take turns, and do not wait one after the other for a database that does not answer."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from dicom_node.receive.turn import Turn
from tests.services import wait_until


class CountedLock:
    """A lock that counts who has asked for it."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = threading.Lock()
        self.release = self._lock.release

    def acquire(self) -> bool:
        self.asked += 1
        return self._lock.acquire()


def waited_behind(engine: Engine, error: Exception) -> list[BaseException | None]:
    """Let three writers wait behind one that fails with the error; return how each of the three ended."""
    subject, lock = Turn(engine), CountedLock()
    subject._lock = lock  # type: ignore[assignment]  # has the methods of a lock that are used

    def write() -> None:
        with subject:
            pass

    def fail() -> None:
        with subject:
            waiting.extend(pool.submit(write) for _ in range(3))
            wait_until(lambda: lock.asked == 4, "three wait")
            raise error

    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(3) as pool:
        with pytest.raises(type(error)):
            fail()
        ended = [one.exception() for one in waiting]
    write()  # who comes later tries the database again
    return ended


def test_who_waits_for_a_database_that_does_not_answer_fails_with_the_first(record: Engine) -> None:
    ended = waited_behind(record, OperationalError(None, None, Exception("timeout expired")))
    assert [type(error) for error in ended] == [OperationalError] * 3


@pytest.mark.parametrize("error", [OSError("disk"), OperationalError(None, None, DeadlockDetected())])
def test_another_error_is_not_that_of_those_who_wait(sqlite_record: Engine, error: Exception) -> None:
    assert waited_behind(sqlite_record, error) == [None] * 3
