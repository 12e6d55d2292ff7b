"""What changed since an earlier study of the patient, if the two can be compared at all.

Limits are applied to figures rounded as the report's sentences show them, as in `worker/gates.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from worker.findings import Algorithm

LUNG_VOLUME_SHARE = 0.2
"""Lung volumes may differ by this share of the larger one; beyond it, breath or coverage differ. Our own choice."""

SPACING_FACTOR = 2.0
"""The distances between slices, and likewise their thicknesses, may differ by up to this factor. Our own choice.

Slices of 3 mm instead of 1 mm shift volumes by 2 %.
"""

THICKNESS_DOUBT_FACTOR = 1.5
"""If slice thicknesses differ by more than this factor, the comparison is uncertain. Our own choice."""

LEAST_BASELINE_ML = 10.0
"""If the prior's infected volume is smaller, no percentage of change is given: a few voxels would double it."""

RAPID_PERCENT, RAPID_WITHIN = 50.0, timedelta(hours=48)
"""The infected volume grew by more than half within 48 hours (Wu et al. 2020, section 1, after China's protocol)."""


@dataclass(frozen=True)
class Exam:
    """The figures of a study, and how it was acquired and measured.

    Parameters
    ----------
    taken_at : datetime, date or None
        Study Date and Time, with a time zone if the study names one; the date alone if the time is malformed or, as
        DICOM allows, missing; None if the date is malformed or missing.
    slice_thickness_mm : float or None
        None if the study, or the report that the figures were read from, names none.
    """

    taken_at: date | None
    algorithm: Algorithm
    slice_spacing_mm: float
    kernel: str
    has_contrast_agent: bool
    lung_volume_ml: float
    infection_volume_ml: float
    infected_percent: float | None
    slice_thickness_mm: float | None = None


@dataclass(frozen=True)
class Change:
    """What changed since the prior.

    ``infection_percent`` is None if the prior's infected volume is below LEAST_BASELINE_ML; ``is_rapid`` is a sign of
    severe COVID-19 that Wu et al. 2020 cite. If ``is_by_date``, ``since`` counts calendar days, because at least one of
    the studies has no time.
    """

    since: timedelta
    infection_ml: float
    infection_percent: float | None
    infected_percent_points: float
    is_by_date: bool

    @property
    def is_rapid(self) -> bool:
        """Whether the infected volume grew by more than 50 % within 48 hours.

        If only the dates are known, the longest time that may have passed counts.
        """
        longest = self.since + (timedelta(days=1) if self.is_by_date else timedelta(0))
        return longest <= RAPID_WITHIN and round(self.infection_percent or 0, 1) > RAPID_PERCENT


@dataclass(frozen=True)
class Comparison:
    """The last study before this one, and the change since then, with doubts about it, or the obstacle to comparing."""

    prior: Exam
    change: Change | None
    obstacle: str = ""
    doubt: str = ""


def compare(now: Exam, others: Sequence[Exam]) -> Comparison | None:
    """Compare with the last study before this one; return None if there is no earlier study."""
    before = earlier_than(now, others)
    if not before:
        return None
    prior = before[-1]
    obstacle = obstacle_between(now, prior)
    if obstacle:
        return Comparison(prior, None, obstacle)
    return Comparison(prior, change_since(prior, now), doubt="; ".join(doubts_between(now, prior)))


def comparable(now: Exam, others: Sequence[Exam]) -> list[Exam]:
    """Return the earlier studies that can be drawn in one curve with this one, the oldest first."""
    return [prior for prior in earlier_than(now, others) if not obstacle_between(now, prior)]


def earlier_than(now: Exam, others: Sequence[Exam]) -> list[Exam]:
    """Return the studies before this one, the oldest first; a study without a date is neither before nor after another.

    If this study has no time, earlier studies that share a day are ordered by their own times.
    """
    dated = [(elapsed(exam.taken_at, now.taken_at), exam) for exam in others if exam.taken_at and now.taken_at]
    before = [(since, exam) for since, exam in dated if since > timedelta(0)]
    return [exam for _, exam in sorted(before, key=lambda pair: (-pair[0], str(pair[1].taken_at)))]


def elapsed(then: date, now: date) -> timedelta:
    """Return the time between two studies; local clock times are compared if either study names no time zone.

    If either study has no time, the result is the days between their dates.
    """
    if not (isinstance(then, datetime) and isinstance(now, datetime)):
        return _day(now) - _day(then)
    if then.tzinfo is None or now.tzinfo is None:
        return now.replace(tzinfo=None) - then.replace(tzinfo=None)
    return now - then


def is_by_date(then: date, now: date) -> bool:
    """Whether at least one of the studies has no time, so that only their dates can be compared."""
    return not (isinstance(then, datetime) and isinstance(now, datetime))


def is_order_unknown(one: date | None, other: date | None) -> bool:
    """Whether two studies are of the same day and at least one has no time, so that their order is unknown."""
    return one is not None and other is not None and is_by_date(one, other) and _day(one) == _day(other)


def is_later(then: date | None, now: date | None) -> bool:
    """Whether a study is known to have been taken after this one, or at the same time."""
    if then is None or now is None or is_order_unknown(then, now):
        return False
    return elapsed(then, now) <= timedelta(0)


def _day(taken: date) -> date:
    return taken.date() if isinstance(taken, datetime) else taken


def obstacle_between(now: Exam, prior: Exam) -> str:
    """Return why two studies cannot be compared, or an empty string."""
    if now.infected_percent is None or prior.infected_percent is None:
        return f"the percentage of {'this' if now.infected_percent is None else 'the prior'} study is withheld"
    if now.algorithm != prior.algorithm:
        return "the prior was measured by another algorithm, version or settings"
    if now.has_contrast_agent != prior.has_contrast_agent:
        return "only one of the two studies was taken with a contrast agent"
    if now.kernel != prior.kernel:
        return f"the kernels differ: {now.kernel or 'unnamed'} now, {prior.kernel or 'unnamed'} before"
    if _ratio(now.slice_spacing_mm, prior.slice_spacing_mm) > SPACING_FACTOR:
        return f"slices are {now.slice_spacing_mm:g} mm apart now, and were {prior.slice_spacing_mm:g} mm"
    if _thickness_ratio(now, prior) > SPACING_FACTOR:
        return _thicknesses(now, prior)
    now_ml, prior_ml = round(now.lung_volume_ml), round(prior.lung_volume_ml)
    if _ratio(now_ml, prior_ml) > 1 / (1 - LUNG_VOLUME_SHARE):
        return f"breath or coverage differ: {now_ml} mL of lung now, {prior_ml} mL before"
    return ""


def doubts_between(now: Exam, prior: Exam) -> list[str]:
    """Return what, other than the infection, may have changed the figures from one study to the other."""
    doubts = []
    if not (now.kernel or prior.kernel):  # otherwise both name the same kernel, see `obstacle_between`
        doubts.append("neither study names its reconstruction kernel, and another kernel changes the figures too")
    if _thickness_ratio(now, prior) > THICKNESS_DOUBT_FACTOR:
        doubts.append(_thicknesses(now, prior))
    return doubts


def change_since(prior: Exam, now: Exam) -> Change:
    """Return the change between two studies that can be compared."""
    if not (now.taken_at and prior.taken_at) or now.infected_percent is None or prior.infected_percent is None:
        raise ValueError("expected studies with dates and percentages; `obstacle_between` and `earlier_than` see to it")
    grown_ml = now.infection_volume_ml - prior.infection_volume_ml
    is_small = prior.infection_volume_ml < LEAST_BASELINE_ML
    return Change(
        since=elapsed(prior.taken_at, now.taken_at),
        infection_ml=grown_ml,
        infection_percent=None if is_small else 100.0 * grown_ml / prior.infection_volume_ml,
        infected_percent_points=now.infected_percent - prior.infected_percent,
        is_by_date=is_by_date(prior.taken_at, now.taken_at),
    )


def _thickness_ratio(now: Exam, prior: Exam) -> float:
    """Return the larger slice thickness divided by the smaller; 1 if either study names none."""
    if now.slice_thickness_mm is None or prior.slice_thickness_mm is None:
        return 1.0
    return _ratio(now.slice_thickness_mm, prior.slice_thickness_mm)


def _thicknesses(now: Exam, prior: Exam) -> str:
    return f"slices are {now.slice_thickness_mm:g} mm thick now, and were {prior.slice_thickness_mm:g} mm"


def _ratio(one: float, other: float) -> float:
    """Return the larger value divided by the smaller; infinite if only the smaller is 0, and 1 if both are."""
    low, high = sorted((one, other))
    return high / low if low > 0 else (1.0 if high == low else float("inf"))
