"""The circuit breaker of a destination."""

from __future__ import annotations

from dicom_node.deliver.breaker import Breaker


def opened() -> Breaker:
    breaker = Breaker(10)
    for _ in range(3):
        breaker.failed(0)
    return breaker


def test_two_failures_leave_it_closed_and_the_third_opens_it() -> None:
    breaker = Breaker(10)
    breaker.failed(0)
    breaker.failed(0)
    assert not breaker.is_open(0)
    breaker.failed(0)
    assert breaker.is_open(4.9)


def test_failures_that_are_not_in_a_row_leave_it_closed() -> None:
    breaker = Breaker(10)
    breaker.succeeded()
    for _ in range(10):
        breaker.failed(0)
        assert not breaker.succeeded()
    assert not breaker.is_open(0)


def test_after_the_pause_one_failure_opens_it_again_for_longer() -> None:
    breaker = opened()
    assert not breaker.is_open(10)
    breaker.failed(10)
    assert breaker.is_open(10 + 9.9)
    assert not breaker.is_open(10 + 20)


def test_the_pause_never_exceeds_a_minute() -> None:
    breaker = opened()
    for _ in range(5000):
        breaker.failed(0)
    assert not breaker.is_open(60)


def test_a_success_closes_it_and_tells_that_it_was_open() -> None:
    breaker = opened()
    assert breaker.succeeded()
    assert not breaker.is_open(0)
    assert not breaker.succeeded()


def test_the_first_success_of_a_process_is_told_as_if_it_had_been_open() -> None:
    """The previous process may have left its breaker open, so the first success must be announced."""
    breaker = Breaker(10)
    assert not breaker.is_open(0)
    assert breaker.succeeded()
    assert not breaker.succeeded()
