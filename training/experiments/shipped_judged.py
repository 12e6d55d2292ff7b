"""The shipped network judged as the worker runs it, beside the HU thresholds, on patients that it never saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from dicom_node.headers import read_series
from training import datasets
from training.datasets.ct_studies import HEALTHY, read_verdicts
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiment import Benchmark, Published
from training.experiments.shipped import FOLDS
from training.files import read_json
from training.metrics import (
    Case,
    Confusion,
    Roc,
    Spread,
    bootstrap_interval,
    infected_percent,
    mean_absolute_error,
    mean_absolute_percent_error,
    pearson_r,
    ratio,
)
from training.overlays import Tile, write_page
from worker.chest_network import INFECTED, WHOLE_LUNG, Agreement, ChestNetwork, probability
from worker.findings import Findings
from worker.pipeline import THRESHOLDS, analyze
from worker.volume import Volume

FEWEST_SLICES = 10
"""PoIR is compared over patients of at least so many slices."""

Compare = Callable[[Sequence[float], Sequence[float]], float]

POIR_MEASURES: Mapping[str, Compare] = {
    "pearson_r": pearson_r,
    "m_ape": mean_absolute_percent_error,
    "mean_absolute_error": mean_absolute_error,
}


@dataclass
class Patient:
    """What was counted over a patient's slices."""

    lung: Confusion = field(default_factory=Confusion)
    infection: Confusion = field(default_factory=Confusion)
    agreement: Agreement = field(default_factory=Agreement)
    slices: int = 0


@dataclass(frozen=True)
class Fold:
    """A network, and the names of those that it never saw."""

    network: ChestNetwork
    tested: frozenset[str]


@dataclass(frozen=True, eq=False)
class Read:
    """A slice with masks, what was found in it, and how that agrees with its mirror image."""

    sample: Sample
    lung: NDArray[np.bool_]
    infection: NDArray[np.bool_]
    agreement: Agreement


def measure(data: Path, runs: Path, short: bool) -> dict[str, float]:
    """Return the figures of the issue's goals; the short form takes every tenth slice and no study."""
    folds = finished_folds(runs)
    slices = [read(fold.network, sample) for fold in folds for sample in kept_aside(fold, data)[:: 10 if short else 1]]
    figures = slice_figures(slices)
    if short:
        return figures
    pages = runs / f"{FOLDS.name}-judged"
    write_page(slice_tiles(slices), pages / "slices.jpg")
    for folder in sorted(path for path in (data / "ct-studies").iterdir() if path.is_dir()):
        methods = [("network", fold.network.method) for fold in folds if folder.name in fold.tested]
        for name, method in (*methods, ("thresholds", THRESHOLDS)):
            volume, findings = analyze(files_of(folder), method)
            figures |= {f"{name}/{folder.name}/{k}": v for k, v in study_figures(folder, volume, findings).items()}
            write_page(study_tiles(volume, findings), pages / f"{folder.name}-{name}.jpg")
    return figures


def finished_folds(runs: Path) -> list[Fold]:
    """Return the folds of the run that are trained."""
    folders = sorted(path.parent for path in (runs / FOLDS.name).glob("split-*/result.json"))
    if not folders:
        raise SettingsError("missing-run", f"expected the run {FOLDS.name} in {runs}; train it first")
    return [
        Fold(ChestNetwork.open(folder / "weights.safetensors"), frozenset(read_json(folder / "result.json")["tested"]))
        for folder in folders
    ]


def kept_aside(fold: Fold, data: Path) -> list[Sample]:
    """Return the slices with masks, of patients that the fold's network never saw."""
    return [sample for sample in datasets.read("infection-slices", data) if sample.patient in fold.tested]


def slice_figures(slices: Sequence[Read]) -> dict[str, float]:
    """Return Dice of lungs and infection and PoIR, by patient, at the images' own resolution."""
    patients: dict[str, Patient] = {}
    for one in slices:
        patient = patients.setdefault(one.sample.patient or one.sample.name, Patient())
        patient.lung += Confusion.of(one.lung, one.sample.mask(LUNG))
        patient.infection += Confusion.of(one.infection, one.sample.mask(INFECTION))
        patient.agreement += one.agreement
        patient.slices += len(one.sample.image)
    figures: dict[str, float] = {}
    for structure in (LUNG, INFECTION):
        counts = {name: getattr(patient, structure) for name, patient in sorted(patients.items())}
        figures |= {f"{structure}/dice/{name}": count.dice for name, count in counts.items()}
        figures |= with_interval(f"{structure}/dice_per_case", lambda c: Spread.of(x.dice for x in c).mean, counts)
        figures |= with_interval(f"{structure}/dice_global", lambda c: sum(c, Confusion()).dice, counts)
    for name, patient in sorted(patients.items()):
        agreement = patient.agreement
        figures[f"mirrored/difference_share/{name}"] = ratio(agreement.difference, agreement.found)
    volumes = {name: patient for name, patient in sorted(patients.items()) if patient.slices >= FEWEST_SLICES}
    figures |= {f"poir/{name}/{of}": poir(p, of) for name, p in volumes.items() for of in ("found", "true")}
    if len(volumes) > 1:
        for name, compare in POIR_MEASURES.items():
            figures |= with_interval(f"poir/{name}", partial(compared, compare), volumes)
    return figures | {"patients": float(len(patients))}


def compared(compare: Compare, patients: Sequence[Patient]) -> float:
    """Return a measure of PoIR found against PoIR true."""
    found, true = ([poir(patient, of) for patient in patients] for of in ("found", "true"))
    return compare(found, true)


def with_interval(
    name: str, statistic: Callable[[Sequence[Case]], float], patients: Mapping[str, Case]
) -> dict[str, float]:
    """Return a figure with its 95 % interval, from patients drawn anew."""
    values = list(patients.values())
    low, high = bootstrap_interval(values, statistic)
    return {name: statistic(values), f"{name}_low": low, f"{name}_high": high}


def read(network: ChestNetwork, sample: Sample) -> Read:
    """Find lung and infection in slices that were cropped to the chest."""
    hu, agreement = sample.image.astype(np.int16), Agreement()
    whole = (slice(0, hu.shape[1]), slice(0, hu.shape[2]))
    answers = network.read_twice(hu, *whole, agreement, WHOLE_LUNG, INFECTED)
    log_odds = np.concatenate([log_odds for _, log_odds in answers])
    lung = log_odds[:, 0] >= 0
    return Read(sample, lung, lung & (probability(log_odds[:, 1]) >= network.card.threshold), agreement)


def poir(patient: Patient, of: str) -> float:
    """Return PoIR in percent, found or true."""
    wrong = "false_positive" if of == "found" else "false_negative"
    infection, lung = (c.true_positive + getattr(c, wrong) for c in (patient.infection, patient.lung))
    return infected_percent(infection, lung)


def files_of(folder: Path) -> list[Path]:
    """Return the CT images of the largest series of a study."""
    series = max(read_series(sorted(folder.rglob("*.dcm"))), key=lambda one: one.slices)
    return [image.path for image in series.ct_images]


def study_figures(folder: Path, volume: Volume, findings: Findings) -> dict[str, float]:
    """Return a study's PoIR and, where a reader judged its slices, the AUC of finding the infected ones."""
    both = findings.measurement("both")
    figures = {
        "infected_percent": 100 * both.infection_volume_ml / both.lung_volume_ml,
        "lung_ml": both.lung_volume_ml,
    }
    verdicts = None if folder.name.startswith(HEALTHY) else read_verdicts(folder.with_suffix(".labels.csv"), volume)
    if verdicts is not None and 0 < verdicts.sum() < len(verdicts):
        areas = volume.geometry.anatomical(
            np.broadcast_to(findings.areas.infection_mm2[:, None, None], volume.hu.shape)
        )[:, 0, 0]
        figures["slice_auc"] = Roc.of(areas, verdicts).area
    return figures


def slice_tiles(slices: Sequence[Read]) -> list[Tile]:
    """Return the four worst, the four middle and the four best slices by Dice of infection."""
    scored = []
    for one in slices:
        sample, true = one.sample, one.sample.mask(INFECTION)
        dice = Confusion.of(one.infection, true).dice
        if not math.isnan(dice):
            outlines = {"true": true[0], "found": one.infection[0]}
            scored.append((dice, Tile(sample.image[0].astype(np.int16), outlines, f"{sample.name} Dice {dice:.2f}")))
    scored.sort(key=lambda entry: entry[0])
    middle = len(scored) // 2
    return [tile for _, tile in (*scored[:4], *scored[middle - 2 : middle + 2], *scored[-4:])]


def study_tiles(volume: Volume, findings: Findings) -> list[Tile]:
    """Return twelve slices: half of them those with most infection found, half evenly spread over the lungs."""
    areas = findings.areas
    lungs = np.flatnonzero(areas.lung_mm2)
    spread = np.linspace(lungs[0], lungs[-1], 8).astype(int)[1:-1]
    most = np.argsort(areas.infection_mm2)[-6:]
    return [
        Tile(
            volume.hu[z],
            {"lung": findings.lungs.labels[z] > 0, "found": findings.infection.array[z]},
            f"slice {z + 1} of {len(volume.hu)}",
        )
        for z in (*spread, *sorted(most))
    ]


BENCHMARKS = (
    Benchmark(
        name=f"{FOLDS.name}-judged",
        paper="ours, before the goals of the default models",
        measure=measure,
        published=(
            Published(f"{LUNG}/dice_per_case", 0.985, "goal"),
            Published(f"{INFECTION}/dice_per_case", 0.77, "goal"),
            Published(f"{INFECTION}/dice_global", 0.84, "goal"),
            Published("poir/m_ape", 10.0, "goal"),
            Published("network/cap-001/slice_auc", 0.95, "goal"),
            Published("network/normal-001/infected_percent", 0.3, "goal: below"),
        ),
        short_form="every tenth slice, no study",
        differs="one split: three patients of the infection slices, cap-001 and normal-001 were kept aside; "
        "covid-p001 and petct-a0002-b40f were trained on",
    ),
)
