"""Repeated turns, and work beside the main thread."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import OperationalError

from dicom_node.beside import Beside, take_turns
from dicom_node.errors import Defect, PassingFailure


@pytest.mark.parametrize("failure", [ZeroDivisionError, SystemExit])
def test_work_that_breaks_stops_the_process_with_a_defect(failure: type[BaseException]) -> None:
    def work() -> None:
        raise failure

    stop = threading.Event()
    beside = Beside("breaks", work, stop)
    assert stop.wait(5)
    with pytest.raises(Defect):
        beside.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_breaks_stops_the_process_though_the_log_breaks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.beside.log", None)
        beside = Beside("breaks", lambda: 1 / 0, stop)
        beside.join(5)
    assert stop.is_set()
    with pytest.raises(Defect):
        beside.check()


def test_work_that_ends_stops_nothing() -> None:
    stop = threading.Event()
    beside = Beside("ends", lambda: None, stop)
    beside.join(5)
    beside.check()
    assert not stop.is_set()


def test_the_first_turn_is_taken_at_once() -> None:
    taken, stop = threading.Event(), threading.Event()
    taking = threading.Thread(target=take_turns, args=(taken.set, stop, 1000.0, "dispatch_failed"))
    taking.start()
    came = taken.wait(5)
    stop.set()
    taking.join()
    assert came


@pytest.mark.parametrize(
    "failure", [PassingFailure("away", "it is away"), OperationalError("", {}, OSError("gone")), OSError("full")]
)
def test_a_failure_outside_costs_a_turn(failure: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    stop, turns = threading.Event(), list[int]()

    def turn() -> None:
        turns.append(1)
        if len(turns) == 1:
            raise failure
        stop.set()

    take_turns(turn, stop, 0.0, "dispatch_failed")
    assert len(turns) == 2
    assert "dispatch_failed" in capsys.readouterr().out


def test_a_defect_ends_the_turns() -> None:
    with pytest.raises(ZeroDivisionError):
        take_turns(lambda: 1 / 0, threading.Event(), 0.0, "dispatch_failed")


def test_what_comes_before_the_first_turn_is_tried_until_it_succeeds_and_no_more() -> None:
    stop, done = threading.Event(), list[str]()

    def begin() -> None:
        done.append("begin")
        if len(done) == 1:
            raise OSError

    def turn() -> None:
        done.append("turn")
        if len(done) == 4:
            stop.set()

    take_turns(turn, stop, 0.0, "dispatch_failed", begin)
    assert done == ["begin", "begin", "turn", "turn"]
