"""How unsure the folds' networks are of altered images, unlike usual chests, and whether the percentage is withheld."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import NotAnalysable, NotForHilum
from training.evaluate.metrics import ratio
from training.experiment import Benchmark
from training.experiments.chest.judged import files_of
from training.experiments.chest.network import FOLDS
from training.experiments.chest.reading import Fold, kept_aside, open_folds, read
from training.prepare.preprocess import WU_WINDOW_HU
from worker.log_odds import Agreement
from worker.pipeline import Method, examine
from worker.volume import Volume, read_volume

NOISE_HU = 250.0
"""Standard deviation of the noise; a low-dose scan has some 50 HU."""

EVERY = 5
"""Only every fifth slice is read, because neighbouring slices are alike."""

Hu = NDArray[np.int16]
"""(slices, rows, columns), front to back in each slice."""


def noisy(hu: Hu) -> Hu:
    """Return an image with much noise."""
    noise = np.random.default_rng(0).normal(0, NOISE_HU, hu.shape)
    return np.clip(hu + noise, -1024, 3071).astype(np.int16)


ALTERATIONS: Mapping[str, Callable[[Hu], Hu]] = {
    "as-it-is": lambda hu: hu,
    "upside-down": lambda hu: np.ascontiguousarray(hu[:, ::-1]),
    "noise": noisy,
    "contrast-doubled": lambda hu: np.clip(2 * hu.astype(np.int32) - int(np.mean(WU_WINDOW_HU)), -3000, 3071).astype(
        np.int16
    ),
    "inverted": lambda hu: (int(sum(WU_WINDOW_HU)) - hu).astype(np.int16),
}


def measure(data: Path, folder: Path, short: bool) -> dict[str, float]:
    """Return how unsure each fold's network is of the patients that it never saw, as they are and altered."""
    figures: dict[str, float] = {}
    for fold in open_folds(folder.parent, short):
        figures |= dict(shares(fold, data, EVERY * (10 if short else 1)))
        for study in () if short else sorted(fold.tested):
            if (data / "ct-studies" / study).is_dir():
                volume = read_volume(files_of(data / "ct-studies" / study))
                figures |= withheld(study, volume, fold.network.method)
    return figures


def shares(fold: Fold, data: Path, every: int) -> Iterator[tuple[str, float]]:
    """Yield, for each alteration and patient, the infection in which two readings differ, as a share of their mean.

    The readings are those of the slices and of their mirror images.
    """
    agreements: dict[tuple[str, str], Agreement] = {}
    for sample, (name, alter) in product(kept_aside(fold, data)[::every], ALTERATIONS.items()):
        altered = replace(sample, image=alter(sample.image.astype(np.int16)), masks={})
        key = name, sample.patient or sample.name
        agreements[key] = agreements.get(key, Agreement()) + read(fold.network, altered).agreement
    for (name, patient), agreement in sorted(agreements.items()):
        yield f"{name}/{patient}/difference_share", ratio(agreement.difference, agreement.found)


def withheld(study: str, volume: Volume, method: Method) -> dict[str, float]:
    """Return for each alteration of a study whether its percentage is withheld, 1 or 0."""
    return {
        f"{name}/{study}/withheld": float(is_withheld(replace(volume, hu=alter(volume.hu)), method))
        for name, alter in ALTERATIONS.items()
    }


def is_withheld(volume: Volume, method: Method) -> bool:
    """Whether a volume gets no percentage."""
    try:
        findings = examine(volume, method)
    except (NotAnalysable, NotForHilum):
        return True
    return findings.measurement("both").infected_percent is None


BENCHMARKS = (
    Benchmark(
        name=f"{FOLDS.name}-doubt",
        paper="ours, knowing when not to answer",
        measure=measure,
        short_form="every fiftieth slice, no study",
        differs="every fifth slice",
    ),
)
