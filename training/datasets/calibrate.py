"""Estimate HU of images whose window is not documented."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.sample import BadData

AIR_HU = -1000
FAT_HU = -100
SOFT_TISSUE_HU = 45
DARK_LUNG_HU = -930
"""The darkest twentieth of healthy lung is below this."""


def to_hu(gray: NDArray[Any], at_gray_0: float, per_gray: float) -> NDArray[np.int16]:
    """Return HU, int16, as a linear function of gray values."""
    hu: NDArray[np.int16] = np.rint(at_gray_0 + per_gray * gray.astype(np.float32)).astype(np.int16)
    return hu


def line_through(gray_a: float, hu_a: float, gray_b: float, hu_b: float) -> tuple[float, float]:
    """Return HU at gray 0 and HU per gray of the line through two points."""
    per_gray = (hu_b - hu_a) / (gray_b - gray_a)
    return hu_a - per_gray * gray_a, per_gray


def mode(values: NDArray[Any], low: float, high: float, bin_width: float, where: str) -> float:
    """Return the most frequent value of a range: the mean of the three neighbouring bins that hold most.

    Raises
    ------
    BadData
        When no value lies in the range; its message begins with ``where``.
    """
    edges = np.arange(low, high + bin_width, bin_width)
    counts, _ = np.histogram(values, bins=edges)
    if not counts.any():
        raise BadData(
            "no-contrast", f"{where}: no pixel outside the lung has {low} to {high}, so HU cannot be estimated"
        )
    middle = edges[int(np.argmax(np.convolve(counts, np.ones(3), mode="same")))] + bin_width / 2
    return float(values[np.abs(values - middle) <= 1.5 * bin_width].mean())


def scale_of_window(
    gray: NDArray[np.uint8], lung: NDArray[np.bool_], healthy: NDArray[np.bool_], where: str
) -> tuple[float, float]:
    """Estimate HU at gray 0 and HU per gray of a lung window, from soft tissue and the darkest healthy lung.

    Gray values from 250 on are left out, because the window ends there.

    Raises
    ------
    BadData
        When the lung's mask is empty, or soft tissue is no brighter than lung; its message begins with ``where``.
    """
    if not lung.any():
        raise BadData("empty-mask", f"{where}: its lung mask is empty, so HU cannot be estimated")
    soft_tissue = mode(gray[~lung], 100, 250, 2, where)
    dark_lung = float(np.percentile(gray[healthy if healthy.any() else lung], 5))
    if not dark_lung < soft_tissue:
        raise BadData("no-contrast", f"{where}: lung (gray {dark_lung:.0f}) is no darker than soft tissue")
    return line_through(dark_lung, DARK_LUNG_HU, soft_tissue, SOFT_TISSUE_HU)
