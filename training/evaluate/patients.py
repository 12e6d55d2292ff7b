"""Dice and PoIR by patient: lungs and infection as a worker finds them, compared with the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from training.datasets.sample import INFECTION, LUNG
from training.evaluate.metrics import (
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
    """Counts over a patient's scans, and sums over the scans with masks of both lung and infection, for PoIR."""

    lung: Confusion = field(default_factory=Confusion)
    infection: Confusion = field(default_factory=Confusion)
    false_ml: float = 0.0
    """False positive infection in mL; NaN if the voxels' spacing is unknown."""
    slices: int = 0
    """Slices of the scans with both masks."""
    found: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """Infection and lung as they were found in these, in mL, or in voxels if their spacing is unknown."""
    true: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def add(self, lung: Confusion, infection: Confusion, slices: int, voxel_ml: float = math.nan) -> None:
        """Add a scan, by its counts of lung and infection; all are 0 if nobody drew the structure.

        Parameters
        ----------
        voxel_ml : float
            NaN if the spacing is unknown; for PoIR, voxels are then alike.
        """
        self.lung += lung
        self.infection += infection
        self.false_ml += infection.false_positive * voxel_ml
        if Confusion() not in (lung, infection):
            self.slices += slices
            size = 1.0 if math.isnan(voxel_ml) else voxel_ml
            self.found += [size * (c.true_positive + c.false_positive) for c in (infection, lung)]
            self.true += [size * (c.true_positive + c.false_negative) for c in (infection, lung)]


def patient_figures(patients: Mapping[str, Patient]) -> dict[str, float]:
    """Return Dice of lungs and infection and PoIR, of each patient and, with 95 % intervals, over patients.

    A patient without infection has no Dice of infection, because one false voxel would make it 0; instead,
    ``infection/false_ml/NAME`` is the volume that was found. ``dice_global`` includes all patients.
    ``poir/cases`` is the number of patients who have a PoIR: lungs and infection were drawn in enough slices.
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
    volumes = {name: p for name, p in patients.items() if p.slices >= FEWEST_SLICES and p.true[1]}
    figures |= {f"poir/{name}/found": poir(p.found) for name, p in volumes.items()}
    figures |= {f"poir/{name}/true": poir(p.true) for name, p in volumes.items()}
    figures["poir/cases"] = float(len(volumes))
    if len(volumes) > 1:
        for name, compare in POIR_MEASURES.items():
            figures |= with_interval(f"poir/{name}", partial(compared, compare), volumes)
    return figures | {"patients": float(len(patients))}


def compared(compare: Compare, patients: Sequence[Patient]) -> float:
    """Return a measure that compares the patients' found PoIR with their true PoIR."""
    return compare([poir(patient.found) for patient in patients], [poir(patient.true) for patient in patients])


def poir(sums: NDArray[np.float64]) -> float:
    """Return the PoIR in percent of the sums of infection and lung; 0 without infection, even if no lung was found."""
    infection, lung = sums.tolist()
    return infected_percent(infection, lung) if infection else 0.0
