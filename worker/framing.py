"""The part of a scan that a network sees: the body or the lungs, on a square image of the network's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from worker.grid import filled

TISSUE_HU = -300
"""Skin and the tissue within it are denser; air, lung and most of the table's padding are less dense."""

AIR_HU = -500
"""If a scan's upper corners are denser than this on average, its images have already been cropped to the patient."""

STRIDE = 4
"""Every fourth pixel is enough to find the body."""

OPENING = 6
"""Radius, in pixels of that coarser image, of a disc that fits into the body but not into what joins it to a table."""


@dataclass(frozen=True)
class Framing:
    """A rectangle of every slice, shown to a network in the middle of a square that is black around it.

    Parameters
    ----------
    rows, columns : slice
        The rectangle's rows and columns in the scan.
    side : int
        Number of rows, and of columns, of the network's image.
    aspect : float
        Height of the scan's pixels divided by their width.
    """

    rows: slice
    columns: slice
    side: int
    aspect: float = 1.0

    def show(self, image: NDArray[np.float32], window_hu: tuple[float, float]) -> NDArray[np.float32]:
        """Return the network's image, in [0, 1], of the rectangle's HU.

        Where the image shrinks, a new pixel is the weighted mean of the pixels that it covers.
        """
        low, high = window_hu
        left, right, above, below = self._margins
        square = np.pad(np.clip((image - low) / (high - low), 0, 1), ((above, below), (left, right)))
        return np.clip(resized(square, (self.side, self.side)), 0, 1)

    def place(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a network's values for the square, resampled to the rectangle's pixels."""
        left, right, above, below = self._margins
        rows, columns = self._shape
        square = resized(values, (rows + above + below, columns + left + right))
        return square[above : above + rows, left : left + columns]

    def reaches(self, values: NDArray[np.float32], least: float) -> NDArray[np.bool_]:
        """Return the rectangle's pixels at which a network's values for the square are at least ``least``."""
        if values.max() < least:  # true of most slices, which need not be resampled then
            return np.zeros(self._shape, np.bool_)
        return self.place(values) >= least

    @property
    def _shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def _margins(self) -> tuple[int, int, int, int]:
        """Return how many pixels to add (left, right, above, below) so that the rectangle is square in millimetres."""
        rows, columns = self._shape
        longer = max(rows * self.aspect, columns)
        more_rows, more_columns = round(longer / self.aspect) - rows, round(longer) - columns
        left, above = more_columns // 2, more_rows // 2
        return left, more_columns - left, above, more_rows - above


def resized(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image resampled to a size (rows, columns).

    Pixels are interpolated bilinearly; where the image shrinks, they are the weighted mean of the pixels they cover.
    """
    rows, columns = size
    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))


def body_box(hu: NDArray[np.int16]) -> tuple[slice, slice]:
    """Return the (rows, columns) that hold the body in all slices of a scan; all rows and columns if no body is found.

    At most 79 slices, evenly spaced, are looked at.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
    """
    rows, columns = hu.shape[1:]
    coarse = hu[:: max(1, len(hu) // 40), ::STRIDE, ::STRIDE]
    high, wide = (n // 10 + 1 for n in coarse.shape[1:])
    corners = np.concatenate([coarse[:, :high, :wide], coarse[:, :high, -wide:]])
    body = np.zeros(coarse.shape[1:], np.bool_)
    if corners.mean() < AIR_HU:
        for plane in filled(coarse > TISSUE_HU):
            solid = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(plane.astype(np.uint8)), [OPENING] * 2)
            largest = sitk.RelabelComponent(sitk.ConnectedComponent(solid)) == 1
            body |= sitk.GetArrayViewFromImage(largest).astype(np.bool_)
    if not body.any():
        return slice(0, rows), slice(0, columns)
    return _span(np.flatnonzero(body.any(axis=1)), rows), _span(np.flatnonzero(body.any(axis=0)), columns)


def _span(places: NDArray[np.intp], length: int) -> slice:
    return slice(max(0, (int(places[0]) - 1) * STRIDE), min(length, (int(places[-1]) + 2) * STRIDE))
