"""When a study counts as whole."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicom_node.dispatch.completion import Watch, is_whole
from dicom_node.study import StudyActivity

QUIET, IDLE = 30.0, 60.0
times = st.floats(0, 1e6)


def activity(last_instance_at: float, last_carried_at: float | None) -> StudyActivity:
    return StudyActivity("1.2.3", 1, last_instance_at, last_carried_at)


@pytest.mark.parametrize(
    ("last_instance_at", "last_carried_at", "whole"),
    [
        (1000.0, None, False),  # just now
        (971.0, None, False),  # 29 seconds ago
        (970.0, None, True),  # 30 seconds ago, and no sender is connected
        (960.0, 960.0, False),  # 40 seconds ago; the sender is still connected
        (940.0, 940.0, True),  # 60 seconds ago; the sender hangs
        (995.0, 930.0, False),  # a second sender is busy while the first hangs
    ],
)
def test_a_study_is_whole_when_it_is_quiet_and_nobody_carries_it(
    last_instance_at: float, last_carried_at: float | None, whole: bool
) -> None:
    assert is_whole(activity(last_instance_at, last_carried_at), 1000.0, QUIET, IDLE) is whole


@given(times, st.none() | times, times, times)
def test_once_whole_it_stays_whole_while_nothing_comes(
    last: float, carried: float | None, now: float, later: float
) -> None:
    if is_whole(activity(last, carried), now, QUIET, IDLE):
        assert is_whole(activity(last, carried), now + later, QUIET, IDLE)


@given(times, st.none() | times)
def test_every_study_is_whole_in_the_end(last: float, carried: float | None) -> None:
    assert is_whole(activity(last, carried), max(last + QUIET, (carried or 0) + IDLE) + 1, QUIET, IDLE)


@given(times, times)
@example(6.668204907273685, 0.0)  # where the sum rounds down
def test_a_watched_study_ages_by_the_steady_clock(last: float, jump: float) -> None:
    watch, one = Watch(), activity(last, None)
    watch.look([], last, 0.0)
    watch.look([one], last, 1.0)
    (seen,) = watch.look([one], last - jump, 11.0)
    assert 10.0 <= round(seen - last, 6) <= 11.0


def test_a_study_found_at_the_start_is_as_old_as_the_clock_says() -> None:
    assert Watch().look([activity(900.0, None)], 1000.0, 5.0) == [1000.0]


def test_a_study_found_at_the_start_with_times_to_come_ages_from_now_on() -> None:
    watch, one = Watch(), activity(5000.0, None)
    assert watch.look([one], 1000.0, 5.0) == [5000.0]
    assert watch.look([one], 1040.0, 45.0) == [5040.0]


def test_a_study_that_grew_under_watch_is_no_older_than_the_last_look() -> None:
    watch = Watch()
    watch.look([], 1000.0, 5.0)
    assert watch.look([activity(1001.0, None)], 99_000.0, 7.0) == [1003.0]
