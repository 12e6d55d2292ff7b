"""Reads a mask back from a viewer's pixels: which voxels are coloured, and how large the coloured area is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.browser.ohif import Viewer
from worker.geometry import Geometry

LEAST_CHROMA = 8.0
LEAST_COSINE = 0.98


@dataclass(frozen=True)
class Overlay:
    """One colour on one slice: the voxels whose centres show it, and the area of all pixels that show it."""

    voxels: NDArray[np.bool_]
    area_mm2: float


def overlay(viewer: Viewer, geometry: Geometry, index: int, rgb: tuple[int, int, int]) -> Overlay:
    """Return where the displayed slice has a colour.

    Parameters
    ----------
    geometry : Geometry
        Of the images. The viewer tells where its voxels are on the screen.
    index : int
        The displayed slice.
    """
    coloured = has_hue(viewer.pixels(), rgb)
    _, rows, columns = geometry.shape
    corners = np.array([(index, 0, 0), (index, rows - 1, 0), (index, 0, columns - 1)])
    origin, last_row, last_column = viewer.to_canvas(geometry.to_patient(corners))
    per_row, per_column = (last_row - origin) / (rows - 1), (last_column - origin) / (columns - 1)
    row, column = np.mgrid[:rows, :columns]
    centres = origin + row[..., None] * per_row + column[..., None] * per_column
    x, y = np.floor(centres).astype(int).transpose(2, 0, 1)
    inside = (x >= 0) & (y >= 0) & (x < coloured.shape[1]) & (y < coloured.shape[0])
    voxels = np.zeros((rows, columns), bool)
    voxels[inside] = coloured[y[inside], x[inside]]
    pixels_a_voxel = abs(per_row[0] * per_column[1] - per_row[1] * per_column[0])
    return Overlay(voxels, float(coloured.sum() / pixels_a_voxel * geometry.pixel_area_mm2))


def has_hue(pixels: NDArray[np.uint8], rgb: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which pixels show a colour that is laid over gray with any opacity.

    The chroma of the mixture (RGB less its mean) has the direction of the colour's own chroma, whatever the gray and
    the opacity.
    """
    chroma = pixels - pixels.mean(axis=2, keepdims=True)
    wanted = np.array(rgb) - np.mean(rgb)
    size = np.linalg.norm(chroma, axis=2)
    along: NDArray[np.float64] = chroma @ wanted / np.linalg.norm(wanted)
    shown: NDArray[np.bool_] = (size > LEAST_CHROMA) & (along > LEAST_COSINE * size)
    return shown
