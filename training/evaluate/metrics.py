"""Every measure of the four papers.

Dice comes in three kinds that differ on the same masks: per case (the mean over scans), global (from the
pixels of all scans together) and per image (the mean over slices). A ratio whose denominator is 0 is NaN, not 0 or 1:
a mean over cases leaves it out, and ``cases`` beside the mean is the number of cases in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Case = TypeVar("Case")

Values = NDArray[np.float64]

BOOTSTRAP_DRAWS = 2000

FEWEST_SLICES = 10
"""Curves over the slices, and PoIR, are compared only over scans of at least this many slices."""


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels by truth and prediction, for one class against all others."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    @classmethod
    def of(cls, predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> Confusion:
        """Compare two masks of the same shape."""
        both = int(np.count_nonzero(predicted & true))
        predicted_only = int(np.count_nonzero(predicted)) - both
        true_only = int(np.count_nonzero(true)) - both
        return cls(both, predicted_only, true_only, true.size - both - predicted_only - true_only)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def sensitivity(self) -> float:
        """Saood & Hatem 2021, eq. 2."""
        return ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Saood & Hatem 2021, eq. 3."""
        return ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """True positives over predicted positives."""
        return ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def dice(self) -> float:
        """Saood & Hatem 2021, eq. 4; Wu et al. 2020, eq. 1; Alalwan et al. 2021, eq. 3."""
        twice = 2 * self.true_positive
        return ratio(twice, twice + self.false_positive + self.false_negative)

    @property
    def g_mean(self) -> float:
        """Saood & Hatem 2021, eq. 5."""
        return math.sqrt(self.sensitivity * self.specificity)

    @property
    def f2(self) -> float:
        """Saood & Hatem 2021, eq. 6, in pixel counts: the form in ratios is undefined without a true positive."""
        hits = 5 * self.true_positive
        return ratio(hits, hits + 4 * self.false_negative + self.false_positive)


def ratio(part: float, whole: float) -> float:
    """Return part / whole, NaN if the whole is 0."""
    return part / whole if whole else math.nan


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and number of those values that are numbers."""

    mean: float
    standard_deviation: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread:
        """Summarise values, leaving out NaN and None (NaN in JSON); NaN if there are too few for the statistic."""
        numbers = [value for value in values if value is not None and not math.isnan(value)]
        if not numbers:
            return cls(math.nan, math.nan, 0)
        deviation = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else math.nan
        return cls(float(np.mean(numbers)), deviation, len(numbers))


COUNTS = ("cases", "patients")
"""Last parts of the names of figures that are counts."""


def over_splits(name: str, values: Iterable[float | None]) -> Spread:
    """Summarise a figure's values over the splits: counts add up, because every case is tested once."""
    spread = Spread.of(values)
    return Spread(spread.mean * spread.count, math.nan, spread.count) if name.split("/")[-1] in COUNTS else spread


def infected_percent(infection_volume: float, lung_volume: float) -> float:
    """Return PoIR, the proportion of infected region, in percent. Wu et al. 2020, eq. 2."""
    return 100 * ratio(infection_volume, lung_volume)


def pearson_r(a: ArrayLike, b: ArrayLike) -> float:
    """Return Pearson's correlation coefficient, NaN where either does not vary. Wu et al. 2020, eq. 3."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.ptp(x) and np.ptp(y)):  # by rounding, their differences from the mean may not be 0
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def mean_absolute_percent_error(predicted: ArrayLike, true: ArrayLike) -> float:
    """Return m-APE, in percent, over the cases whose truth is not 0. Wu et al. 2020, the equation after 3."""
    p, t = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    infected = t != 0
    return 100 * Spread.of(np.abs((p - t)[infected] / t[infected])).mean


def mean_absolute_error(predicted: ArrayLike, true: ArrayLike) -> float:
    """Return the mean absolute error, in the unit of the values: percentage points for percentages."""
    return float(np.abs(np.asarray(predicted, np.float64) - np.asarray(true, np.float64)).mean())


def bootstrap_interval(cases: Sequence[Case], statistic: Callable[[Sequence[Case]], float]) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of a statistic over cases. Efron & Tibshirani 1993.

    Cases are drawn with replacement, by the same draws in every call. NaN if there are fewer than two cases, or if no
    draw defines the statistic.
    """
    draws = np.random.default_rng(0).integers(len(cases), size=(BOOTSTRAP_DRAWS, len(cases)))
    drawn = [statistic([cases[i] for i in draw]) for draw in draws]
    defined = [value for value in drawn if not math.isnan(value)]
    if len(cases) < 2 or not defined:
        return math.nan, math.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def with_interval(
    name: str, statistic: Callable[[Sequence[Case]], float], patients: Mapping[str, Case]
) -> dict[str, float]:
    """Return a figure with its bootstrap 95 % interval over patients."""
    values = list(patients.values())
    low, high = bootstrap_interval(values, statistic)
    return {name: statistic(values), f"{name}_low": low, f"{name}_high": high}


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Bias of a method against the truth, and the limits between which 95 % of its errors lie."""

    bias: float
    lower: float
    upper: float


def bland_altman(predicted: ArrayLike, true: ArrayLike) -> LimitsOfAgreement:
    """Return bias and limits of agreement, in the unit of the values. Bland & Altman 1986."""
    errors = np.asarray(predicted, np.float64) - np.asarray(true, np.float64)
    spread = Spread.of(errors)
    reach = 1.96 * spread.standard_deviation
    return LimitsOfAgreement(spread.mean, spread.mean - reach, spread.mean + reach)


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic: rates at falling thresholds."""

    false_positive_rate: Values
    true_positive_rate: Values
    thresholds: Values
    positives: int
    negatives: int

    @classmethod
    def of(cls, scores: ArrayLike, truth: ArrayLike) -> Roc:
        """Sweep the threshold over all scores; a case is called positive at thresholds up to its own score."""
        s, t = np.asarray(scores, np.float64), np.asarray(truth, np.bool_)
        order = np.argsort(-s, kind="stable")
        s, t = s[order], t[order]
        # Equal scores pass a threshold together.
        last_of_equals = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
        hits, alarms = np.cumsum(t)[last_of_equals], np.cumsum(~t)[last_of_equals]
        positives, negatives = int(t.sum()), int((~t).sum())
        with np.errstate(invalid="ignore"):
            return cls(
                false_positive_rate=np.append(0.0, alarms / np.float64(negatives)),
                true_positive_rate=np.append(0.0, hits / np.float64(positives)),
                thresholds=np.append(np.inf, s[last_of_equals]),
                positives=positives,
                negatives=negatives,
            )

    @property
    def area(self) -> float:
        """Area under the curve (AUC): the chance that a positive scores above a negative."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))

    def best_threshold(self) -> tuple[float, float]:
        """Return the score that is the threshold of the highest accuracy, and that accuracy.

        Wu et al. 2020, "Performance of binary classifier": accuracy 93.8 % at 0.45. A threshold above all scores is
        none: the classifier would call nothing positive.
        """
        hits, alarms = (  # a rate is NaN where there is nothing to count
            np.nan_to_num(rate) * count
            for rate, count in ((self.true_positive_rate, self.positives), (self.false_positive_rate, self.negatives))
        )
        correct = hits + self.negatives - alarms
        best = 1 + int(np.argmax(correct[1:]))
        return float(self.thresholds[best]), float(correct[best]) / (self.positives + self.negatives)


def area_plot(masks: NDArray[np.bool_], pixels: ArrayLike = 1.0) -> Values:
    """Return the mask's area in each slice, divided by the largest one, shape (slices,).

    Shivdeo et al. 2021, section 5.3. All zero if the masks are empty.

    Parameters
    ----------
    pixels : array_like
        Size of a pixel of each slice, in any unit: slices may have been cropped, and then resized, differently.
    """
    areas: Values = masks.reshape(len(masks), -1).mean(axis=1) * np.asarray(pixels, np.float64)
    largest = float(areas.max())
    return areas / largest if largest else areas


def area_plot_likeness(predicted: NDArray[np.bool_], true: NDArray[np.bool_], pixels: ArrayLike = 1.0) -> float:
    """Return how alike two area-plots are: one minus their mean absolute difference.

    1 means that the plots are the same, 0 that one is full wherever the other is empty. Shivdeo et al. 2021,
    section 5.3, compare the plots by eye; this expresses the comparison as a number.
    """
    return 1 - mean_absolute_error(area_plot(predicted, pixels), area_plot(true, pixels))


def area_plot_roughness(masks: NDArray[np.bool_], pixels: ArrayLike = 1.0) -> float:
    """Return the mean step between neighbouring slices of the area-plot: the "abrupt variations" of 2D."""
    plot = area_plot(masks, pixels)
    return float(np.abs(np.diff(plot)).mean()) if len(plot) > 1 else 0.0
