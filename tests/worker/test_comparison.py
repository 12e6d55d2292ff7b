from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.comparison import Comparison, Exam, comparable, compare, is_order_unknown
from worker.findings import Algorithm

THEN = datetime(2024, 2, 1, 10, 0)  # noqa: DTZ001 - DICOM's times often have no zone
PRIOR = Exam(THEN, Algorithm("Network", "2.1"), 2.0, "B31f", False, 4000.0, 200.0, 5.0, 2.0)
NOW = replace(PRIOR, taken_at=THEN + timedelta(hours=36), infection_volume_ml=320.0, infected_percent=8.0)


def compared(now: Exam, *others: Exam) -> Comparison:
    found = compare(now, others)
    assert found is not None
    return found


def test_tells_the_change_in_ml_and_percent_and_the_time_between() -> None:
    change = compared(NOW, PRIOR).change

    assert change is not None
    assert change.since == timedelta(hours=36)
    assert (change.infection_ml, change.infection_percent) == (pytest.approx(120), pytest.approx(60))
    assert change.infected_percent_points == pytest.approx(3)


@pytest.mark.parametrize(
    ("hours", "volume_ml", "is_rapid"),
    [(48, 301, True), (48, 300.2, True), (48, 300.08, False), (48, 300, False), (49, 400, False), (1, 199, False)],
)
def test_growth_is_rapid_above_half_within_two_days(hours: float, volume_ml: float, is_rapid: bool) -> None:
    change = compared(replace(NOW, taken_at=THEN + timedelta(hours=hours), infection_volume_ml=volume_ml), PRIOR).change

    assert change is not None
    assert change.is_rapid is is_rapid


def test_a_small_baseline_gives_no_percentage_and_no_sign() -> None:
    change = compared(NOW, replace(PRIOR, infection_volume_ml=9.0)).change

    assert change is not None
    assert change.infection_percent is None
    assert not change.is_rapid


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"infected_percent": None}, "withheld"),
        ({"algorithm": Algorithm("Network", "2.2")}, "another algorithm"),
        ({"algorithm": Algorithm("Network", "2.1", weights_sha256="ab")}, "another algorithm"),
        ({"has_contrast_agent": True}, "contrast"),
        ({"kernel": "B70f"}, "kernels differ: B31f now, B70f before"),
        ({"slice_spacing_mm": 5.0}, "2 mm apart now, and were 5 mm"),
        ({"slice_thickness_mm": 5.0}, "2 mm thick now, and were 5 mm"),
        ({"slice_thickness_mm": 0.996}, "2 mm thick now, and were 0.996 mm"),
        ({"lung_volume_ml": 3000.0}, "4000 mL of lung now, 3000 mL before"),
    ],
)
def test_says_why_there_is_no_comparison(difference: dict[str, Any], reason: str) -> None:
    found = compared(NOW, replace(PRIOR, **difference))

    assert found.change is None
    assert reason in found.obstacle


def test_lung_volumes_are_held_against_each_other_as_they_are_told() -> None:
    assert compared(NOW, replace(PRIOR, lung_volume_ml=3199.6)).obstacle == ""  # 3200 mL, 20 % below 4000
    assert "3199 mL before" in compared(NOW, replace(PRIOR, lung_volume_ml=3199.4)).obstacle


@pytest.mark.parametrize("prior_kernel", ["", "B31f"])
def test_kernels_that_nobody_names_are_not_said_to_be_equal(prior_kernel: str) -> None:
    found = compared(replace(NOW, kernel=""), replace(PRIOR, kernel=prior_kernel))

    if prior_kernel:
        assert found.obstacle == "the kernels differ: unnamed now, B31f before"
    else:
        assert found.change is not None
        assert "neither study names its reconstruction kernel" in found.doubt


def test_the_same_kernel_leaves_no_doubt() -> None:
    assert compared(NOW, PRIOR).doubt == ""


@pytest.mark.parametrize(("now_mm", "then_mm"), [(10.0, 5.0), (5.0, 10.0)])
def test_much_thicker_slices_in_one_study_leave_a_doubt(now_mm: float, then_mm: float) -> None:
    now, prior = (replace(exam, slice_thickness_mm=mm) for exam, mm in ((NOW, now_mm), (PRIOR, then_mm)))
    found = compared(now, prior)

    assert found.change is not None
    assert found.doubt == f"slices are {now_mm:g} mm thick now, and were {then_mm:g} mm"


def test_a_thickness_that_only_one_study_tells_is_not_compared() -> None:
    found = compared(NOW, replace(PRIOR, slice_thickness_mm=None))

    assert found.change is not None
    assert found.doubt == ""


def test_compares_with_the_last_study_before_this_one() -> None:
    older = replace(PRIOR, taken_at=THEN - timedelta(days=9))
    later = replace(PRIOR, taken_at=THEN + timedelta(days=9))

    assert compared(NOW, older, later, PRIOR).prior == PRIOR


@pytest.mark.parametrize(
    "other", [NOW, replace(PRIOR, taken_at=None), replace(PRIOR, taken_at=THEN + timedelta(days=9))]
)
def test_a_study_at_the_same_time_later_or_undated_is_no_prior(other: Exam) -> None:
    assert compare(NOW, [other]) is None


def zoned(taken_at: datetime, hours: int) -> datetime:
    return taken_at.replace(tzinfo=timezone(timedelta(hours=hours)))


def test_times_of_two_zones_are_compared_in_one() -> None:
    change = compared(replace(NOW, taken_at=zoned(THEN, -5)), replace(PRIOR, taken_at=zoned(THEN, 1))).change

    assert change is not None
    assert change.since == timedelta(hours=6)


def test_a_time_without_a_zone_is_compared_by_the_clock_alone() -> None:
    before = replace(PRIOR, taken_at=THEN - timedelta(hours=2))
    change = compared(replace(NOW, taken_at=zoned(THEN, 5)), before, replace(PRIOR, taken_at=zoned(THEN, 4))).change

    assert change is not None
    assert change.since == timedelta(hours=2)


def test_an_undated_study_has_no_prior() -> None:
    assert compare(replace(NOW, taken_at=None), [PRIOR]) is None


DAY = THEN.date()


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (THEN + timedelta(days=2), DAY),
        (DAY + timedelta(days=2), THEN),
        (DAY + timedelta(days=2), DAY),
        (zoned(THEN + timedelta(days=2), 5), DAY),
    ],
)
def test_where_a_time_is_missing_the_dates_tell_the_days_between(now: date, then: date) -> None:
    change = compared(replace(NOW, taken_at=now), replace(PRIOR, taken_at=then)).change

    assert change is not None
    assert (change.since, change.is_by_date) == (timedelta(days=2), True)


@pytest.mark.parametrize(("days", "is_rapid"), [(1, True), (2, False)])
def test_growth_is_rapid_by_dates_only_where_no_more_than_two_days_can_lie_between(days: int, is_rapid: bool) -> None:
    change = compared(replace(NOW, taken_at=DAY + timedelta(days=days)), replace(PRIOR, taken_at=DAY)).change

    assert change is not None
    assert change.is_rapid is is_rapid


@pytest.mark.parametrize("is_reversed", [False, True])
def test_where_this_study_has_no_time_the_priors_of_one_day_stand_in_their_own_order(is_reversed: bool) -> None:
    now = replace(NOW, taken_at=DAY + timedelta(days=2))
    in_order = [replace(PRIOR, taken_at=taken) for taken in (DAY, THEN, THEN + timedelta(hours=9))]
    found = in_order[::-1] if is_reversed else in_order

    assert compared(now, *found).prior == in_order[-1]
    assert comparable(now, found) == in_order


@pytest.mark.parametrize(("now", "then"), [(THEN, DAY), (DAY, THEN), (DAY, DAY)])
def test_on_one_day_nobody_knows_the_order_without_both_times(now: date, then: date) -> None:
    assert compare(replace(NOW, taken_at=now), [replace(PRIOR, taken_at=then)]) is None
    assert is_order_unknown(now, then)


def test_times_or_dates_tell_the_order_else() -> None:
    assert not is_order_unknown(THEN, THEN + timedelta(hours=1))
    assert not is_order_unknown(THEN, DAY + timedelta(days=1))
    assert not is_order_unknown(None, DAY)


def test_the_curve_holds_what_can_be_compared_oldest_first() -> None:
    older = replace(PRIOR, taken_at=THEN - timedelta(days=9))
    other = replace(PRIOR, kernel="B70f")

    assert comparable(NOW, [PRIOR, other, older]) == [older, PRIOR]


@given(st.floats(10, 5000), st.floats(0, 5000))
def test_the_change_leads_from_the_prior_to_now(before_ml: float, now_ml: float) -> None:
    prior = replace(PRIOR, infection_volume_ml=before_ml)

    change = compared(replace(NOW, infection_volume_ml=now_ml), prior).change

    assert change is not None
    assert change.infection_percent is not None
    assert before_ml * (1 + change.infection_percent / 100) == pytest.approx(now_ml, abs=1e-6)
