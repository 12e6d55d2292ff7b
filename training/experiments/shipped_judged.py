"""The shipped network judged as the worker runs it, beside the HU thresholds, on patients that it never saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from dicom_node.headers import read_series
from training import datasets
from training.datasets.ct_studies import HEALTHY, read_verdicts
from training.datasets.sample import INFECTION, LUNG, Sample
from training.experiment import Benchmark, Published
from training.experiments.shipped import CHEST
from training.files import read_json
from training.metrics import Confusion, Roc, Spread, infected_percent, mean_absolute_error, mean_absolute_percent_error
from worker.chest_network import INFECTION as INFECTION_CLASS
from worker.chest_network import LUNG as LUNG_CLASS
from worker.chest_network import ChestNetwork
from worker.pipeline import THRESHOLDS, Method, analyze

FEWEST_SLICES = 10
"""PoIR is compared over patients of at least so many slices."""


@dataclass
class Patient:
    """What was counted over a patient's slices."""

    lung: Confusion = field(default_factory=Confusion)
    infection: Confusion = field(default_factory=Confusion)
    slices: int = 0


def measure(data: Path, runs: Path, short: bool) -> dict[str, float]:
    """Return the figures of the issue's goals; the short form takes every tenth slice and no study."""
    network = ChestNetwork.open(runs / CHEST.name / "split-0" / "weights.safetensors")
    samples = list(tested("infection-slices", data, runs))[:: 10 if short else 1]
    figures = slice_figures(network, samples)
    if not short:
        for study in CHEST.split.test_patients:  # type: ignore[union-attr]  # the split names its patients
            folder = data / "ct-studies" / study
            if folder.is_dir():
                for name, method in (("network", network.method), ("thresholds", THRESHOLDS)):
                    figures |= {f"{name}/{study}/{k}": v for k, v in study_figures(folder, method).items()}
    return figures


def tested(name: str, data: Path, runs: Path) -> Iterator[Sample]:
    """Yield the samples of a data set whose patients the run kept aside."""
    result = runs / CHEST.name / "split-0" / "result.json"
    if not result.exists():
        raise SettingsError("missing-run", f"expected the finished run {CHEST.name} in {runs}; train it first")
    aside = set(read_json(result)["tested"])
    for sample in datasets.read(name, data):
        if (sample.patient or sample.name) in aside:
            yield sample


def slice_figures(network: ChestNetwork, samples: Sequence[Sample]) -> dict[str, float]:
    """Return Dice of lungs and infection and PoIR, by patient, at the images' own resolution."""
    patients: dict[str, Patient] = {}
    for sample in samples:
        lung, infection = segment(network, sample.image.astype(np.int16))
        patient = patients.setdefault(sample.patient or sample.name, Patient())
        patient.lung += Confusion.of(lung, sample.mask(LUNG))
        patient.infection += Confusion.of(infection, sample.mask(INFECTION))
        patient.slices += len(sample.image)
    figures: dict[str, float] = {}
    for structure in (LUNG, INFECTION):
        counts = [getattr(patient, structure) for patient in patients.values()]
        dice = [count.dice for count in counts]
        figures |= {
            f"{structure}/dice_per_case": Spread.of(dice).mean,
            f"{structure}/dice_lowest": min(dice),
            f"{structure}/dice_highest": max(dice),
            f"{structure}/dice_global": sum(counts, Confusion()).dice,
        }
    volumes = [patient for patient in patients.values() if patient.slices >= FEWEST_SLICES]
    if volumes:
        found, true = ([poir(patient, of) for patient in volumes] for of in ("found", "true"))
        figures["poir/m_ape"] = mean_absolute_percent_error(found, true)
        figures["poir/mean_absolute_error"] = mean_absolute_error(found, true)
    return figures | {"patients": float(len(patients))}


def segment(network: ChestNetwork, hu: NDArray[np.int16]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return lung and infection of slices that were cropped to the chest."""
    whole = (slice(0, hu.shape[1]), slice(0, hu.shape[2]))
    found = np.concatenate([probabilities for _, probabilities in network.read(hu, *whole, mirrored=True)])
    lung = found[:, LUNG_CLASS] + found[:, INFECTION_CLASS] >= 0.5
    return lung, lung & (found[:, INFECTION_CLASS] >= network.card.threshold)


def poir(patient: Patient, of: str) -> float:
    """Return PoIR in percent, found or true."""
    wrong = "false_positive" if of == "found" else "false_negative"
    infection, lung = (c.true_positive + getattr(c, wrong) for c in (patient.infection, patient.lung))
    return infected_percent(infection, lung)


def study_figures(folder: Path, method: Method) -> dict[str, float]:
    """Return a study's PoIR and, where a reader judged its slices, the AUC of finding the infected ones."""
    series = max(read_series(sorted(folder.rglob("*.dcm"))), key=lambda one: one.slices)
    volume, findings = analyze([image.path for image in series.ct_images], method)
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


BENCHMARKS = (
    Benchmark(
        name="shipped-chest-judged",
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
        differs="one split; three patients of the infection slices and two studies in true HU were kept aside",
    ),
)
