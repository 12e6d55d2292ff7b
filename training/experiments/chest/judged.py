"""The shipped network's recipe judged beside the HU thresholds, on patients and studies that it never saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from dicom_node.headers import read_series
from training.datasets.ct_studies import HEALTHY, read_verdicts
from training.datasets.sample import INFECTION, LUNG
from training.evaluate.metrics import Confusion, Roc, Spread, ratio
from training.evaluate.overlays import Tile, in_lung_window, worst_middle_best, write_page
from training.evaluate.patients import Patient, patient_figures
from training.experiment import Benchmark, Published
from training.experiments.chest.network import FOLDS
from training.experiments.chest.reading import Read, open_folds, read_folds
from worker.findings import Findings
from worker.log_odds import Agreement
from worker.pipeline import THRESHOLDS, Method, analyze
from worker.volume import Volume

LINES = (0.1, 0.2, 0.3, 0.5, 0.7)
"""Further thresholds at which Dice is measured, to show how little depends on the choice of the threshold."""


def measure(data: Path, folder: Path, short: bool) -> dict[str, float]:
    """Return the figures that have goals, and others; the short form takes every tenth slice and no study."""
    folds = open_folds(folder.parent, short)
    slices = read_folds(folds, data, every=10 if short else 1)
    figures = slice_figures(slices)
    if short:
        return figures
    for fold in folds:
        studies = [data / "ct-studies" / name for name in sorted(fold.tested) if (data / "ct-studies" / name).is_dir()]
        methods = {"network": fold.network.method, "thresholds": THRESHOLDS}
        for study, name in product(studies, methods):
            figures |= judge_study(study, name, methods[name], folder)
    write_page(slice_tiles(slices), folder / "slices.jpg")
    return figures


def judge_study(folder: Path, name: str, method: Method, pages: Path) -> dict[str, float]:
    """Analyse a study by a method, draw a page of its slices and return its figures; ``name`` is the method's."""
    volume, findings = analyze(files_of(folder), method)
    write_page(study_tiles(volume, findings), pages / f"{folder.name}-{name}.jpg")
    figures = study_figures(folder, volume, findings)
    return {f"{name}/{folder.name}/{figure}": value for figure, value in figures.items()}


def slice_figures(slices: Sequence[Read]) -> dict[str, float]:
    """Return Dice of lungs and infection and PoIR, by patient, at the images' own resolution."""
    patients: dict[str, Patient] = {}
    agreements: dict[str, Agreement] = {}
    drawn_at: dict[tuple[float, str], Confusion] = {}
    for one in slices:
        patient = patients.setdefault(one.patient, Patient())
        lung = Confusion.of(one.lung, one.sample.mask(LUNG))
        patient.add(lung, Confusion.of(one.infected, one.sample.mask(INFECTION)), len(one.sample.image))
        agreements[one.patient] = agreements.get(one.patient, Agreement()) + one.agreement
        for line in LINES:
            found = Confusion.of(one.infection >= line, one.sample.mask(INFECTION))
            drawn_at[line, one.patient] = drawn_at.get((line, one.patient), Confusion()) + found
    figures = {
        f"{INFECTION}/dice_per_case/at-{line}": Spread.of(drawn_at[line, name].dice for name in patients).mean
        for line in LINES
    }
    figures |= patient_figures(patients)
    for name, agreement in sorted(agreements.items()):
        figures[f"mirrored/difference_share/{name}"] = ratio(agreement.difference, agreement.found)
    return figures


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
    verdicts = (
        None
        if folder.name.startswith(HEALTHY)
        else read_verdicts(folder.with_name(f"{folder.name}.labels.csv"), volume)
    )
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
        dice = Confusion.of(one.infected, true).dice
        if not math.isnan(dice):
            outlines = {"true": true[0], "found": one.infected[0]}
            gray = in_lung_window(sample.image[0].astype(np.int16))
            scored.append((dice, Tile.of(gray, outlines, f"{sample.name} Dice {dice:.2f}")))
    return worst_middle_best(scored)


def study_tiles(volume: Volume, findings: Findings) -> list[Tile]:
    """Return twelve slices: six evenly spread over the lungs, and the six with most infection found."""
    areas = findings.areas
    lungs = np.flatnonzero(areas.lung_mm2)
    spread = np.linspace(lungs[0], lungs[-1], 8).astype(int)[1:-1]
    most = np.argsort(areas.infection_mm2)[-6:]
    return [
        Tile.of(
            in_lung_window(volume.hu[z]),
            {"lung": findings.lungs.labels[z] > 0, "found": findings.infection.array[z]},
            f"slice {z + 1} of {len(volume.hu)}",
        )
        for z in (*spread, *sorted(most))
    ]


BENCHMARKS = (
    Benchmark(
        name=f"{FOLDS.name}-judged",
        paper="ours, beside the goals of the default models",
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
        differs="four folds by patient, infection from a probability of 0.5",
    ),
)
