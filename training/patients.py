"""Dice and PoIR by patient: lungs and infection as a worker finds them, compared with the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from training.datasets.sample import INFECTION, LUNG
from training.metrics import (
    FEWEST_SLICES,
    Confusion,
    Spread,
    infected_percent,
    mean_absolute_error,
    mean_absolute_percent_error,
    pearson_r,
    with_interval,
)

Compare = Callable[[Sequence[float], Sequence[float]], float]

POIR_MEASURES: Mapping[str, Compare] = {
    "pearson_r": pearson_r,
    "m_ape": mean_absolute_percent_error,
    "mean_absolute_error": mean_absolute_error,
}


@dataclass
class Patient:
    """Counts over a patient's slices."""

    lung: Confusion = field(default_factory=Confusion)
    infection: Confusion = field(default_factory=Confusion)
    slices: int = 0
    false_ml: float = math.nan
    """False positive infection in mL; NaN if the voxels' spacing is unknown."""


def patient_figures(patients: Mapping[str, Patient]) -> dict[str, float]:
    """Return Dice of lungs and infection and PoIR, of each patient and, with 95 % intervals, over patients.

    A patient without infection has no Dice of infection, because one false voxel would make it 0; instead,
    ``infection/false_ml/NAME`` is the volume that was found. ``dice_global`` includes all patients.
    """
    patients = dict(sorted(patients.items()))
    figures: dict[str, float] = {}
    for structure in (LUNG, INFECTION):
        counts = {name: getattr(patient, structure) for name, patient in patients.items()}
        shown = {name: count for name, count in counts.items() if count.true_positive + count.false_negative}
        figures |= {f"{structure}/dice/{name}": count.dice for name, count in shown.items()}
        figures |= with_interval(f"{structure}/dice_per_case", lambda c: Spread.of(x.dice for x in c).mean, shown)
        figures |= with_interval(f"{structure}/dice_global", lambda c: sum(c, Confusion()).dice, counts)
        figures[f"{structure}/cases"] = float(len(shown))
    healthy = {name: p for name, p in patients.items() if f"{INFECTION}/dice/{name}" not in figures}
    figures |= {f"{INFECTION}/false_ml/{name}": patient.false_ml for name, patient in healthy.items()}
    volumes = {name: patient for name, patient in patients.items() if patient.slices >= FEWEST_SLICES}
    figures |= {f"poir/{name}/{of}": poir(p, of) for name, p in volumes.items() for of in ("found", "true")}
    if len(volumes) > 1:
        for name, compare in POIR_MEASURES.items():
            figures |= with_interval(f"poir/{name}", partial(compared, compare), volumes)
    return figures | {"patients": float(len(patients))}


def compared(compare: Compare, patients: Sequence[Patient]) -> float:
    """Return a measure that compares the patients' found PoIR with their true PoIR."""
    found, true = ([poir(patient, of) for patient in patients] for of in ("found", "true"))
    return compare(found, true)


def poir(patient: Patient, of: str) -> float:
    """Return a patient's PoIR in percent; ``of`` is "found" or "true"."""
    wrong = "false_positive" if of == "found" else "false_negative"
    infection, lung = (c.true_positive + getattr(c, wrong) for c in (patient.infection, patient.lung))
    return infected_percent(infection, lung)
