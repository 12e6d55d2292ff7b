import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import DiceMetric, get_confusion_matrix
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from training.evaluate import metrics
from training.evaluate.metrics import Confusion, Roc, Spread, bootstrap_interval

Masks = tuple[NDArray[np.bool_], NDArray[np.bool_]]
SHAPE = (3, 7, 8)

mask = hnp.arrays(np.bool_, SHAPE)
values = hnp.arrays(np.float64, 12, elements=st.floats(-100, 100).map(lambda x: round(x, 3)))


def random_masks(seed: int, share: float = 0.3) -> Masks:
    random = np.random.default_rng(seed)
    return random.random(SHAPE) < share, random.random(SHAPE) < share


@given(mask, mask)
def test_counts_are_monais(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
    ours = Confusion.of(predicted, true)
    tensors = (torch.from_numpy(m.astype(np.float32))[None, None] for m in (predicted, true))
    theirs = get_confusion_matrix(*tensors)[0, 0].tolist()
    assert [ours.true_positive, ours.false_positive, ours.true_negative, ours.false_negative] == theirs


@pytest.mark.parametrize("seed", range(5))
def test_ratios_are_scikit_learns(seed: int) -> None:
    predicted, true = random_masks(seed)
    ours = Confusion.of(predicted, true)
    p, t = predicted.ravel(), true.ravel()
    assert ours.sensitivity == pytest.approx(sk.recall_score(t, p))
    assert ours.specificity == pytest.approx(sk.recall_score(~t, ~p))
    assert ours.precision == pytest.approx(sk.precision_score(t, p))
    assert ours.dice == pytest.approx(sk.f1_score(t, p))
    assert ours.f2 == pytest.approx(sk.fbeta_score(t, p, beta=2))
    assert ours.g_mean == pytest.approx(math.sqrt(sk.recall_score(t, p) * sk.recall_score(~t, ~p)))


def test_f2_is_0_where_nothing_is_hit() -> None:
    assert Confusion(0, 0, 5, 5).f2 == Confusion(0, 3, 5, 5).f2 == 0


@pytest.mark.parametrize("seed", range(5))
def test_dice_is_monais_and_simpleitks(seed: int) -> None:
    predicted, true = random_masks(seed)
    ours = Confusion.of(predicted, true).dice
    monai = DiceMetric()(torch.from_numpy(predicted)[None, None], torch.from_numpy(true)[None, None])
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (predicted, true)))
    assert ours == pytest.approx(float(monai))
    assert ours == pytest.approx(overlap.GetDiceCoefficient())


@given(st.lists(st.tuples(mask, mask), min_size=1, max_size=4))
def test_the_sum_of_counts_is_the_count_of_all_pixels(pairs: list[Masks]) -> None:
    total = Confusion()
    for pair in pairs:
        total = total + Confusion.of(*pair)
    assert total == Confusion.of(*(np.concatenate(masks) for masks in zip(*pairs, strict=True)))


def test_ratios_of_nothing_are_not_numbers() -> None:
    empty = np.zeros(SHAPE, np.bool_)
    nothing = Confusion.of(empty, empty)
    assert math.isnan(nothing.dice)
    assert math.isnan(nothing.sensitivity)
    assert nothing.specificity == 1


def test_a_spread_leaves_out_what_is_not_a_number() -> None:
    assert Spread.of([1.0, math.nan, 3.0, None]) == Spread(2.0, pytest.approx(math.sqrt(2)), 2)


def test_poir_is_a_percentage_of_the_lung() -> None:
    assert metrics.infected_percent(30, 120) == 25


@given(values, values)
def test_pearson_r_is_scipys(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    ours = metrics.pearson_r(a, b)
    if np.ptp(a) < 1e-2 or np.ptp(b) < 1e-2:
        return  # too little variation for a stable result of either function
    assert ours == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-9)


def test_values_that_do_not_vary_correlate_with_nothing() -> None:
    assert math.isnan(metrics.pearson_r([0.1] * 3, [0.1] * 3))
    assert math.isnan(metrics.pearson_r([0.1] * 3, [0.1, 0.2, 0.3]))


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted, true = random.random(20) * 100, random.random(20) * 100 + 1
    assert metrics.mean_absolute_error(predicted, true) == pytest.approx(sk.mean_absolute_error(true, predicted))
    assert metrics.mean_absolute_percent_error(predicted, true) == pytest.approx(
        100 * sk.mean_absolute_percentage_error(true, predicted)
    )


def test_the_percent_error_leaves_out_the_healthy() -> None:
    assert metrics.mean_absolute_percent_error([3, 11], [0, 10]) == pytest.approx(10)


def test_limits_of_agreement_hold_95_percent_of_normal_errors() -> None:
    random = np.random.default_rng(0)
    true = random.random(20_000)
    predicted = true + random.normal(2, 3, len(true))
    agreement = metrics.bland_altman(predicted, true)
    errors = predicted - true
    assert agreement.bias == pytest.approx(2, abs=0.1)
    assert stats.norm.cdf((agreement.lower, agreement.upper), errors.mean(), errors.std()) == pytest.approx(
        (0.025, 0.975), abs=1e-4
    )


@given(
    hnp.arrays(np.float64, 30, elements=st.sampled_from([0.0, 0.1, 0.45, 0.5, 0.9, 1.0])),
    hnp.arrays(np.bool_, 30),
)
def test_the_roc_is_scikit_learns(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> None:
    if truth.all() or not truth.any():
        return  # such data have no ROC curve
    ours = Roc.of(scores, truth)
    fpr, tpr, thresholds = sk.roc_curve(truth, scores, drop_intermediate=False)
    assert ours.area == pytest.approx(sk.roc_auc_score(truth, scores))
    assert np.allclose(ours.false_positive_rate, fpr)
    assert np.allclose(ours.true_positive_rate, tpr)
    assert np.array_equal(ours.thresholds, thresholds)


@given(hnp.arrays(np.float64, 20, elements=st.sampled_from([0.1, 0.2, 0.45, 0.7])), hnp.arrays(np.bool_, 20))
def test_no_score_is_a_more_accurate_threshold_than_the_best(
    scores: NDArray[np.float64], truth: NDArray[np.bool_]
) -> None:
    threshold, accuracy = Roc.of(scores, truth).best_threshold()
    assert accuracy == pytest.approx(sk.accuracy_score(truth, scores >= threshold))
    assert accuracy >= max(sk.accuracy_score(truth, scores >= score) for score in scores) - 1e-12


def test_where_no_candidate_is_wrong_the_best_threshold_lets_all_pass() -> None:
    assert Roc.of([0.9, 0.8, 0.2], [True, True, True]).best_threshold() == (0.2, 1.0)


def test_counts_add_up_over_splits_and_all_else_is_averaged() -> None:
    assert metrics.over_splits("lung/cases", [3.0, None, 4.0]).mean == 7
    assert metrics.over_splits("lung/dice_per_case", [0.5, None, 0.7]).mean == pytest.approx(0.6)


def test_an_area_plot_weighs_each_slice_by_the_size_of_its_pixels() -> None:
    masks = np.ones((3, 2, 2), np.bool_)
    assert metrics.area_plot(masks, [1.0, 2.0, 0.5]).tolist() == [0.5, 1, 0.25]


def test_an_area_plot_is_one_at_its_highest() -> None:
    masks = np.zeros((3, 4, 4), np.bool_)
    masks[1, :2], masks[2, 0] = True, True
    assert metrics.area_plot(masks).tolist() == [0, 1, 0.5]


@pytest.mark.parametrize("seed", range(3))
def test_the_likeness_of_area_plots_is_that_of_simpleitks_areas_by_scikit_learns_error(seed: int) -> None:
    def plot(masks: NDArray[np.bool_]) -> list[float]:
        areas = []
        for plane in masks:
            statistics = sitk.StatisticsImageFilter()
            statistics.Execute(sitk.GetImageFromArray(plane.astype(np.uint8)))
            areas.append(statistics.GetSum() / plane.size)
        return [area / max(areas) for area in areas]

    predicted, true = random_masks(seed)
    theirs = 1 - sk.mean_absolute_error(plot(true), plot(predicted))
    assert metrics.area_plot_likeness(predicted, true) == pytest.approx(theirs)


@given(mask)
def test_an_area_plot_is_like_itself(masks: NDArray[np.bool_]) -> None:
    assert metrics.area_plot_likeness(masks, masks) == 1


def test_a_full_area_plot_is_unlike_an_empty_one() -> None:
    full = np.ones(SHAPE, np.bool_)
    assert metrics.area_plot_likeness(full, ~full) == 0


def test_masks_that_come_and_go_are_rough() -> None:
    smooth = np.zeros((4, 2, 2), np.bool_)
    smooth[1:3] = True
    rough = np.zeros((4, 2, 2), np.bool_)
    rough[[0, 2]] = True
    assert metrics.area_plot_roughness(rough) > metrics.area_plot_roughness(smooth)


def test_the_bootstraps_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=200)
    low, high = bootstrap_interval(list(values), lambda drawn: float(np.mean(drawn)))
    reach = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.05 * reach)


def test_one_case_has_no_interval() -> None:
    assert all(math.isnan(bound) for bound in bootstrap_interval([1.0], lambda drawn: drawn[0]))
