"""Wu et al. 2020: the classifier of candidate regions, Dice before and after it, and PoIR.

Every patient is judged by a classifier that has not seen it: that of a split learns from the candidates of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.infection_slices import ESTIMATED_HU
from training.datasets.sample import INFECTION
from training.evaluate.metrics import (
    FEWEST_SLICES,
    Confusion,
    Roc,
    Spread,
    bland_altman,
    infected_percent,
    mean_absolute_error,
    mean_absolute_percent_error,
    pearson_r,
)
from training.evaluate.roc_curve import write_roc_curve
from training.experiment import Benchmark, Published
from training.experiments.papers.candidate_training import save_classifier, score, train_classifier
from training.experiments.papers.cases import Case, find_chest_cases, find_wu_cases


def measure(find: Callable[[Path, Path, bool], list[Case]], data: Path, folder: Path, short: bool) -> dict[str, float]:
    """Return AUC and best threshold of the classifier, and Dice and PoIR without it, with it, and with a faultless one.

    The classifiers are kept in ``split-N`` of the run's folder, so a run that was interrupted trains on; their curve is
    drawn as ``roc.svg``.

    Parameters
    ----------
    find : callable
        Maps the folders of the data sets and of the runs, and whether the runs may be short, to cases.
    """
    cases = find(data, folder.parent, short)
    scores, losses = score_candidates(cases, folder, short)
    roc = Roc.of(np.concatenate(scores), [c.is_infection for case in cases for c in case.candidates])
    write_roc_curve(roc, folder / "roc.svg")
    threshold, accuracy = roc.best_threshold()
    truth = [np.array([float(c.is_infection) for c in case.candidates]) for case in cases]
    kept, rightly_kept = (
        [filtered(case, values, least) for case, values in zip(cases, judged, strict=True)]
        for judged, least in ((scores, threshold), (truth, 0.5))
    )
    figures = {
        "classifier/auc": roc.area,
        "classifier/best_threshold": threshold,
        "classifier/accuracy": accuracy,
        "classifier/candidates": float(roc.positives + roc.negatives),
        **losses,
    }
    for stage, masks in (("before", [case.infection for case in cases]), ("after", kept), ("faultless", rightly_kept)):
        dice = [Confusion.of(mask, case.true_infection).dice for mask, case in zip(masks, cases, strict=True)]
        figures[f"{stage}/{INFECTION}/dice_per_case"] = Spread.of(dice).mean
        figures |= {f"{stage}/poir/{name}": value for name, value in compare_poir(cases, masks).items()}
    return figures


def score_candidates(
    cases: Sequence[Case], folder: Path, short: bool
) -> tuple[list[NDArray[np.float64]], dict[str, float]]:
    """Return the probability of infection of each case's candidates, by a classifier trained on the other splits'.

    Also returns the classifiers' loss in their first and last epoch. Each is kept in ``folder/split-N``.
    """
    networks, histories = {}, []
    splits = sorted({case.split for case in cases})
    for split in splits:
        others = [case for case in cases if case.split != split]
        place = folder / f"split-{split}"
        networks[split], progress = train_classifier(
            [candidate for case in others for candidate in case.candidates],
            found_by={case.found_by for case in others},
            folder=place,
            seed=split,
            title=f"classifier of split {split + 1} of {len(splits)}",
        )
        save_classifier(place / "weights.safetensors", networks[split], progress.sources, short=short)
        histories.append(progress.history)
    losses = {
        "classifier/loss_first": Spread.of(history[0]["loss"] for history in histories).mean,
        "classifier/loss_last": Spread.of(history[-1]["loss"] for history in histories).mean,
    }
    return [score(networks[case.split], case.candidates) for case in cases], losses


def filtered(case: Case, scores: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Return the infection without the candidates that score below the threshold."""
    kept = np.zeros_like(case.infection)
    for candidate, value in zip(case.candidates, scores, strict=True):
        if value >= threshold:
            kept[candidate.slice_index] |= candidate.region
    return kept


def compare_poir(cases: Sequence[Case], infections: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
    """Return how the proportion of infected region agrees with the truth, over scans of at least ten slices, if any."""
    pairs = [
        (poir(case, infection, case.lung), poir(case, case.true_infection, case.true_lung))
        for case, infection in zip(cases, infections, strict=True)
        if len(case.lung) >= FEWEST_SLICES
    ]
    if not pairs:
        return {}
    predicted, true = zip(*pairs, strict=True)
    limits = bland_altman(predicted, true)
    return {
        "pearson_r": pearson_r(predicted, true),
        "m_ape": mean_absolute_percent_error(predicted, true),
        "mae_points": mean_absolute_error(predicted, true),
        "bias_points": limits.bias,
        "lower_limit_points": limits.lower,
        "upper_limit_points": limits.upper,
    }


def poir(case: Case, infection: NDArray[np.bool_], lung: NDArray[np.bool_]) -> float:
    """Return PoIR in percent; pixels of differently cropped slices differ in size."""
    return infected_percent(
        float((infection & lung).sum(axis=(1, 2)) @ case.pixel_volumes),
        float(lung.sum(axis=(1, 2)) @ case.pixel_volumes),
    )


def benchmarks() -> Iterator[Benchmark]:
    """Yield one benchmark for each of Wu et al.'s two networks."""
    for network, before, after in (("unet", 0.684, (0.743,)), ("unet-2.5d", 0.693, (0.757, 0.758))):
        # Of the 2.5D network with classifier, table 1 says 0.757, the text 0.758.
        text = 'text, "Performance of binary classifier"'
        filtered_dice = zip(after, ("table 1", text), strict=False)
        yield Benchmark(
            name=f"wu-classifier-{network}",
            paper="Wu et al. 2020, table 1 and PoIR",
            measure=partial(measure, partial(find_wu_cases, network)),
            short_form="the networks' runs may be short",
            published=(
                Published("classifier/auc", 0.913, text),
                Published("classifier/best_threshold", 0.45, text),
                Published("classifier/accuracy", 0.938, text),
                Published(f"before/{INFECTION}/dice_per_case", before, "table 1"),
                *(Published(f"after/{INFECTION}/dice_per_case", dice, place) for dice, place in filtered_dice),
                Published("after/poir/pearson_r", 0.961, "results"),
                Published("after/poir/m_ape", 11.7, "results"),
            ),
            differs=f"9 patients; {ESTIMATED_HU}; a candidate counts as infection if at least half of it is; this "
            "share, the squares' size, rate, batch size and length are ours, the paper names none; PoIR counts "
            "infection within the lung, and the paper does not say which network its PoIR is of; the threshold is "
            "chosen on the candidates that it is judged on, as in the paper",
        )


CHEST_CLASSIFIER = Benchmark(
    name="chest-classifier",
    paper="ours, with the classifier of Wu et al. 2020",
    measure=partial(measure, find_chest_cases),
    short_form="the networks' runs may be short",
    published=(
        Published(f"before/{INFECTION}/dice_per_case", 0.77, "goal"),
        Published(f"after/{INFECTION}/dice_per_case", 0.80, "goal"),
        Published("after/poir/m_ape", 10.0, "goal"),
    ),
    differs="threshold as in the paper's: the best on the candidates that it is judged on, so the gain is no less "
    "than it would be on others",
)

BENCHMARKS = (*benchmarks(), CHEST_CLASSIFIER)
