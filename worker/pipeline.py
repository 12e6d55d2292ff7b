"""The whole measurement: from the files of a CT series to its findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worker.candidates import SMALLEST_ML, Candidates, Judge, by_size, filter_candidates
from worker.findings import Algorithm, Findings, Flag, Lungs, Mask, Region
from worker.gates import flags_of, require_chest_extent, require_lungs, unaerated
from worker.infection import AERATED_HU, segment_infection
from worker.lungs import LUNG_HU, segment_lungs
from worker.measure import hu_bands, measure, slice_areas
from worker.severity import severity
from worker.volume import Volume, read_volume

Progress = Callable[[str, float], None]
"""Called with the name of the stage that begins and the share of the work done before it."""


@dataclass(frozen=True)
class Method:
    """The stages in which thresholds and networks differ, and the algorithm that the report names for their results.

    The doubts that ``segment_infection`` returns are reported together with the flags of `worker.gates`.
    """

    algorithm: Algorithm
    segment_lungs: Callable[[Volume], Lungs]
    segment_infection: Callable[[Volume, Lungs], Candidates]
    judge: Judge


THRESHOLDS = Method(
    algorithm=Algorithm(
        name="Hilum HU thresholds",
        version="1.0",
        settings=(
            ("lung_hu", str(LUNG_HU)),
            ("aerated_hu", str(AERATED_HU)),
            ("smallest_region_ml", str(SMALLEST_ML)),
        ),
    ),
    segment_lungs=segment_lungs,
    segment_infection=lambda volume, lungs: Candidates(segment_infection(volume, lungs)),
    judge=by_size,
)
"""Wu et al.'s first method (2020): mask(-200 HU) minus mask(-750 HU)."""


def ignore_progress(_stage: str, _share: float) -> None:
    """Do nothing, for callers that report no progress."""


def analyze(
    paths: Sequence[Path], method: Method = THRESHOLDS, progress: Progress = ignore_progress
) -> tuple[Volume, Findings]:
    """Measure the infected share of the lungs in one CT series.

    Parameters
    ----------
    paths : sequence of Path
        The files of one series, in any order.

    Raises
    ------
    NotAnalysable
        A chest CT that cannot be measured; the message says why.
    NotForHilum
        Not a CT, or not of the chest.
    """
    progress("reading the series", 0.0)
    volume = read_volume(paths)
    return volume, examine(volume, method, progress)


def examine(volume: Volume, method: Method, progress: Progress = ignore_progress) -> Findings:
    """Measure the infected share of the lungs in a volume; raises what ``analyze`` does."""
    require_chest_extent(volume)

    progress("finding the lungs", 0.25)
    lungs = method.segment_lungs(volume)
    require_lungs(volume, lungs)

    progress("finding infection", 0.6)
    infection, regions, doubts = _infection(volume, lungs, method)

    progress("measuring", 0.85)
    measurements = measure(volume, lungs, infection)
    flags = (*flags_of(volume, lungs, measurements), *doubts)
    is_withheld = any(flag.withholds_percentage for flag in flags)
    if is_withheld:
        measurements = tuple(replace(m, infected_percent=None) for m in measurements)
    scores = None if is_withheld else severity(lungs, infection)
    return Findings(
        geometry=volume.geometry,
        lungs=lungs,
        infection=infection,
        regions=regions,
        measurements=measurements,
        areas=slice_areas(lungs, infection),
        bands=hu_bands(volume, lungs),
        severity=scores,
        algorithm=method.algorithm,
        flags=(*flags, *unaerated(scores)),
    )


def _infection(volume: Volume, lungs: Lungs, method: Method) -> tuple[Mask, tuple[Region, ...], tuple[Flag, ...]]:
    """Find and filter infection; the unfiltered candidates are freed on return."""
    candidates = method.segment_infection(volume, lungs)
    return *filter_candidates(volume, candidates, method.judge), candidates.doubts
