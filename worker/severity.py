"""How much of the lungs is involved, as scores that radiologists know."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from worker.findings import LEFT, RIGHT, Level, Lungs, Mask, Severity, Side, Zone
from worker.measure import voxels_by_slice

WHOLE_LUNG_PERCENT = (5.0, 25.0, 50.0, 75.0)
"""From these percentages on, the whole-lung score is 2, 3, 4, 5; any infection below the first scores 1."""

ZONE_PERCENT = (25.0, 50.0, 75.0)
"""From these percentages on, a zone scores 2, 3, 4; any infection below the first scores 1."""

LEAST_ZONE_ML = 10.0
"""A zone with less lung counts as one without: consolidation or effusion has left only remnants. Our own choice."""

_LEVELS: tuple[Level, ...] = ("lower", "middle", "upper")
_SIDES: tuple[tuple[Side, int], ...] = (("right", RIGHT), ("left", LEFT))


def severity(lungs: Lungs, infection: Mask) -> Severity | None:
    """Score how much of the lungs is infected; None where there is no lung.

    Notes
    -----
    The whole-lung score applies the steps of Pan et al. (Radiology 2020;295:715), who score each lobe, to both
    lungs together: 0 nothing, 1 below 5 %, 2 from 5 %, 3 from 25 %, 4 from 50 %, 5 from 75 %.

    The six-zone score is that of Ooi et al. (Radiology 2004;230:836) for SARS, used for COVID-19 since: an
    upper, a middle and a lower zone of each lung score 0 to 4, which add up to 0 to 24. Its readers divide the
    zones at the carina and at the inferior pulmonary veins. Hilum does not locate these, but takes equal thirds
    of the height of both lungs together. In a zone that is wholly consolidated, or under an effusion, no lung
    may have been found: the zone has no score, for 0 would call it healthy, and there is no sum.
    """
    geometry = lungs.geometry
    lung, sick = voxels_by_slice(geometry.anatomical(lungs.labels), geometry.anatomical(infection.array))
    inside = np.flatnonzero(lung.any(axis=1))
    if not inside.size:
        return None
    bottom, height = int(inside[0]), int(inside[-1]) + 1 - int(inside[0])
    least = LEAST_ZONE_ML / geometry.voxel_volume_ml
    third = (3 * (np.arange(len(lung)) - bottom) + 1) // height  # in which each slice lies, by its centre
    return Severity(
        whole_lung_score=score(100.0 * float(sick.sum()) / float(lung.sum()), WHOLE_LUNG_PERCENT),
        zones=tuple(
            _zone(side, level, int(lung[third == number, value].sum()), int(sick[third == number, value].sum()), least)
            for number, level in reversed(tuple(enumerate(_LEVELS)))
            for side, value in _SIDES
        ),
    )


def score(percent: float, steps: tuple[float, ...]) -> int:
    """Return 0 for no infection, 1 below the first step, and one more from each step on.

    The percentage is compared with the steps in tenths, as the report's sentences show it.
    """
    return 1 + bisect_right(steps, round(percent, 1)) if percent > 0 else 0


def _zone(side: Side, level: Level, lung: int, sick: int, least: float) -> Zone:
    """Return a zone with ``lung`` voxels, ``sick`` of them infected; with fewer than ``least`` it has no score."""
    if lung < least:
        return Zone(side, level, None, None)
    percent = 100.0 * sick / lung
    return Zone(side, level, percent, score(percent, ZONE_PERCENT))
