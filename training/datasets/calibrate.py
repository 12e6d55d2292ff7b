"""Estimate HU of images whose window is not documented."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def mode(values: NDArray[Any], low: float, high: float, bin_width: float) -> float:
    """Return the most frequent value of a range: the mean of the three neighbouring bins that hold most."""
    edges = np.arange(low, high + bin_width, bin_width)
    counts, _ = np.histogram(values, bins=edges)
    middle = edges[int(np.argmax(np.convolve(counts, np.ones(3), mode="same")))] + bin_width / 2
    near = values[np.abs(values - middle) <= 1.5 * bin_width]
    return float(near.mean()) if near.size else float(middle)


def scale_of_window(
    gray: NDArray[np.uint8], lung: NDArray[np.bool_], healthy: NDArray[np.bool_]
) -> tuple[float, float]:
    """Estimate HU at gray 0 and HU per gray of a lung window, from soft tissue and the darkest healthy lung.

    Gray values from 250 on are left out, because the window ends there.
    """
    soft_tissue = mode(gray[~lung], 100, 250, 2)
    dark_lung = float(np.percentile(gray[healthy if healthy.any() else lung], 5))
    return line_through(dark_lung, DARK_LUNG_HU, soft_tissue, SOFT_TISSUE_HU)
