"""When a study counts as whole."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.dispatch.completion import Ages, Watch, is_whole
from dicom_node.study import StudyActivity

QUIET, IDLE = 30.0, 60.0
times = st.floats(0, 1e6)


def activity(last_instance_at: float, last_carried_at: float | None = None, last_instance_id: int = 1) -> StudyActivity:
    return StudyActivity("1.2.3", last_instance_id, last_instance_at, last_carried_at)


@pytest.mark.parametrize(
    ("newest", "carried", "whole"),
    [
        (0.0, math.inf, False),  # just now
        (29.0, math.inf, False),
        (30.0, math.inf, True),  # and no sender is connected
        (40.0, 40.0, False),  # the sender is still connected
        (60.0, 60.0, True),  # the sender hangs
        (5.0, 70.0, False),  # a second sender is busy while the first hangs
    ],
)
def test_a_study_is_whole_when_it_is_quiet_and_nobody_carries_it(newest: float, carried: float, whole: bool) -> None:
    assert is_whole(Ages(newest, carried), QUIET, IDLE) is whole


@given(times, times, times, times)
def test_a_watched_study_ages_by_the_steady_clock(last: float, carried: float, jump: float, later_jump: float) -> None:
    watch, one = Watch(), activity(last, carried)
    watch.look([], last, 0.0)
    watch.look([one], last - jump, 1.0)
    (seen,) = watch.look([one], last + later_jump, 11.0)
    assert 10.0 <= seen.newest <= 11.0
    assert 10.0 <= seen.carried <= 11.0


def test_a_study_found_at_the_start_is_as_old_as_the_clock_says() -> None:
    assert Watch().look([activity(900.0, 890.0)], 1000.0, 5.0) == [Ages(100.0, 110.0)]


def test_a_study_found_at_the_start_with_times_to_come_ages_from_now_on() -> None:
    watch, one = Watch(), activity(5000.0, 5000.0)
    assert watch.look([one], 1000.0, 5.0) == [Ages(0.0, 0.0)]
    assert watch.look([one], 1040.0, 45.0) == [Ages(40.0, 40.0)]


def test_a_study_that_grew_under_watch_is_no_older_than_the_last_look() -> None:
    watch = Watch()
    watch.look([], 1000.0, 5.0)
    assert watch.look([activity(1001.0)], 99_000.0, 7.0) == [Ages(2.0)]


def test_what_an_association_brought_ages_on_while_another_brings_more() -> None:
    watch = Watch()
    watch.look([activity(5000.0, 5000.0)], 5000.0, 0.0)
    assert watch.look([activity(1100.0, 5000.0, last_instance_id=2)], 1100.0, 100.0) == [Ages(0.0, 100.0)]
