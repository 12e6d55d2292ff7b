"""Compare a trained network's predictions with the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from training.evaluate.metrics import FEWEST_SLICES, Confusion, Spread, area_plot_likeness, area_plot_roughness, ratio
from training.evaluate.scan import Segmenter
from training.prepare.examples import Stacking
from training.prepare.prepared import Prepared, pixel_volumes, scans
from training.prepare.target import UNKNOWN
from worker.networks.network import SegmentationNetwork
from worker.networks.torch_engine import TorchEngine


@dataclass(frozen=True, eq=False)
class Judged:
    """A scan with its predicted and true label maps, uint8 (slices, rows, columns), ``UNKNOWN`` in the same pixels."""

    scan: str
    samples: tuple[Prepared, ...]
    predicted: NDArray[np.uint8]
    true: NDArray[np.uint8]
    seconds: float


THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Thresholds to choose from on the validation part."""


def make_segmenter(network: SegmentationNetwork, stacking: Stacking, threshold: float) -> Segmenter:
    """Return a segmenter that reads scans with a network; stacks of 3D networks follow each other without overlap."""
    return Segmenter(
        engine=TorchEngine(network, str(next(network.parameters()).device)),
        layout=network.layout,
        divisors=network.divisors,
        threshold=threshold,
        stack_slices=stacking.slices,
    )


def judge(
    network: SegmentationNetwork, stacking: Stacking, prepared: Sequence[Prepared], threshold: float = 0.5
) -> list[Judged]:
    """Predict every scan."""
    segmenter = make_segmenter(network, stacking, threshold)
    judged = []
    for scan in scans(prepared):
        image = np.concatenate([sample.image for sample in scan])
        began = time.perf_counter()
        predicted = segmenter.labels(image)
        seconds = time.perf_counter() - began
        true = np.concatenate([sample.labels for sample in scan])
        predicted[true == UNKNOWN] = UNKNOWN
        judged.append(Judged(scan[0].scan, tuple(scan), predicted, true, seconds))
    return judged


def measure(judged: Sequence[Judged], class_names: Sequence[str]) -> dict[str, float]:
    """Return every measure of a segmentation, by name; NaN where it is undefined.

    Parameters
    ----------
    class_names : sequence of str
        By label, the background first.

    Returns
    -------
    dict
        ``accuracy_per_image`` and its ``_sd`` over the images (Saood & Hatem 2021, table 3),
        ``seconds_per_slice``, and for each class ``NAME/MEASURE``: ``dice_global`` and the other ratios from
        the pixels of all scans together (Saood & Hatem 2021, tables 4, 6, 7; Alalwan et al. 2021, section 4.2),
        ``dice_per_case`` and ``dice_per_image`` as means over scans and slices, ``area_plot_likeness`` and
        ``_roughness`` over the scans of at least ten slices (Shivdeo et al. 2021, section 5.3), and ``cases``:
        the number of scans in the mean ``dice_per_case``, which leaves out scans where the class is neither
        present nor found. A class that no scan shows, perhaps because nobody annotated it, has no measures.
    """
    accuracies = Spread.of(
        accuracy(predicted, true) for scan in judged for predicted, true in zip(scan.predicted, scan.true, strict=True)
    )
    measures = {
        "accuracy_per_image": accuracies.mean,
        "accuracy_per_image_sd": accuracies.standard_deviation,
        "seconds_per_slice": sum(s.seconds for s in judged) / sum(len(s.true) for s in judged),
    }
    for label, name in enumerate(class_names[1:], start=1):
        if any((scan.true == label).any() for scan in judged):
            measures |= {f"{name}/{key}": value for key, value in _measure_class(judged, label).items()}
    return measures


def _measure_class(judged: Sequence[Judged], label: int) -> Mapping[str, float]:
    cases = [count(scan.predicted, scan.true, label) for scan in judged]
    images = [count(p, t, label) for scan in judged for p, t in zip(scan.predicted, scan.true, strict=True)]
    whole = reduce(add, cases)
    volumes = [
        (s.predicted == label, s.true == label, pixel_volumes(s.samples))
        for s in judged
        if len(s.true) >= FEWEST_SLICES
    ]
    per_case = Spread.of(case.dice for case in cases)
    return {
        "dice_global": whole.dice,
        "dice_per_case": per_case.mean,
        "dice_per_image": Spread.of(image.dice for image in images).mean,
        "sensitivity": whole.sensitivity,
        "specificity": whole.specificity,
        "precision": whole.precision,
        "g_mean": whole.g_mean,
        "f2": whole.f2,
        "area_plot_likeness": Spread.of(area_plot_likeness(*volume) for volume in volumes).mean,
        "area_plot_roughness": Spread.of(
            area_plot_roughness(predicted, pixels) for predicted, _, pixels in volumes
        ).mean,
        "cases": float(per_case.count),
    }


def accuracy(predicted: NDArray[np.uint8], true: NDArray[np.uint8]) -> float:
    """Return the share of the known pixels that have the right class, all classes together."""
    known = true != UNKNOWN
    return ratio(int(np.count_nonzero(predicted[known] == true[known])), int(np.count_nonzero(known)))


def count(predicted: NDArray[np.uint8], true: NDArray[np.uint8], label: int) -> Confusion:
    """Count the known pixels of one class against all others."""
    known = true != UNKNOWN
    return Confusion.of(predicted[known] == label, true[known] == label)


def sweep_thresholds(
    network: SegmentationNetwork, stacking: Stacking, prepared: Sequence[Prepared]
) -> dict[float, Confusion]:
    """Return the counts of all scans together at each threshold of a single foreground class."""
    segmenter = make_segmenter(network, stacking, 0.5)
    totals = dict.fromkeys(THRESHOLDS, Confusion())
    for scan in scans(prepared):
        image, labels = (np.concatenate([getattr(s, name) for s in scan]) for name in ("image", "labels"))
        for first, probabilities in segmenter.probabilities(image):
            foreground = probabilities[:, -1]
            true = labels[first : first + len(foreground)]
            for threshold in THRESHOLDS:
                totals[threshold] += count((foreground >= threshold).astype(np.uint8), true, 1)
    return totals


def tuned_dice(
    network: SegmentationNetwork, stacking: Stacking, validation: Sequence[Prepared], test: Sequence[Prepared]
) -> dict[str, float]:
    """Return the global Dice on the test part at the threshold that is best on the validation part.

    This measures a network independently of its threshold, because weighted losses shift the best threshold. NaN if the
    validation part has no pixel of the class.
    """
    seen = sweep_thresholds(network, stacking, validation)
    if not any(count.true_positive + count.false_negative for count in seen.values()):
        return {"threshold": math.nan, "dice_global": math.nan}
    threshold = max(seen, key=lambda t: seen[t].dice)
    return {"threshold": threshold, "dice_global": sweep_thresholds(network, stacking, test)[threshold].dice}


def foreground_dice(
    network: SegmentationNetwork, stacking: Stacking, prepared: Sequence[Prepared], threshold: float
) -> float:
    """Return the global Dice, a mean over the foreground classes present in the truth: the figure for validation."""
    judged = judge(network, stacking, prepared, threshold)
    labels = range(1, max(2, network.classes))
    sums = [reduce(add, (count(scan.predicted, scan.true, label) for scan in judged)) for label in labels]
    return Spread.of(s.dice for s in sums if s.true_positive + s.false_negative).mean
