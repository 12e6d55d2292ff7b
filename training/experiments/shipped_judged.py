"""The shipped network judged as the worker runs it, beside the HU thresholds, on patients that it never saw."""

from __future__ import annotations

import math
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
from training.overlays import Tile, write_page
from worker.chest_network import INFECTION as INFECTION_CLASS
from worker.chest_network import LUNG as LUNG_CLASS
from worker.chest_network import ChestNetwork
from worker.findings import Findings
from worker.pipeline import THRESHOLDS, analyze
from worker.volume import Volume

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
    samples = list(kept_aside("infection-slices", data, runs))[:: 10 if short else 1]
    figures = slice_figures(network, samples)
    if short:
        return figures
    pages = runs / f"{CHEST.name}-judged"
    write_page(slice_tiles(network, samples), pages / "slices.jpg")
    for folder in sorted(path for path in (data / "ct-studies").iterdir() if path.is_dir()):
        for name, method in (("network", network.method), ("thresholds", THRESHOLDS)):
            volume, findings = analyze(files_of(folder), method)
            figures |= {f"{name}/{folder.name}/{k}": v for k, v in study_figures(folder, volume, findings).items()}
            write_page(study_tiles(volume, findings), pages / f"{folder.name}-{name}.jpg")
    return figures


def kept_aside(name: str, data: Path, runs: Path) -> Iterator[Sample]:
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


def slice_tiles(network: ChestNetwork, samples: Sequence[Sample]) -> list[Tile]:
    """Return the four worst, the four middle and the four best slices by Dice of infection."""
    scored = []
    for sample in samples:
        _, found = segment(network, sample.image.astype(np.int16))
        dice = Confusion.of(found, sample.mask(INFECTION)).dice
        if not math.isnan(dice):
            outlines = {"true": sample.mask(INFECTION)[0], "found": found[0]}
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
        name=f"{CHEST.name}-judged",
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
