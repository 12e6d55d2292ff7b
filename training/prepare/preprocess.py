"""Turn a sample into a network's input: one gray scale, one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.datasets.sample import LUNG, BadData, Sample
from worker.framing import body_box
from worker.grid import bounding_box

WU_WINDOW_HU = (-1200.0, 600.0)
"""Wu et al. 2020, "Process": clipped, then scaled linearly to [0, 255]."""


@dataclass(frozen=True)
class Preprocess:
    """A paper's preprocessing, as data.

    Parameters
    ----------
    size : tuple of int
        (rows, columns) of the network's image.
    window_hu : tuple of float, "header" or None
        HU are clipped to this and scaled to [0, 1]; "header" takes the window of the DICOM header
        (Shivdeo et al. 2021, section 3). 8-bit images without a known window are divided by 255;
        None if all images are such.
    keep_aspect : bool
        Whether to pad the shorter side, rather than stretch it; sides are compared in mm if the spacing is known.
    within_lungs : bool
        Whether to blacken everything outside the lung mask (Saood & Hatem 2021, figure 1).
    crop_to_body : bool
        Whether to cut away the air around the patient, as the worker does.
    """

    size: tuple[int, int]
    window_hu: tuple[float, float] | Literal["header"] | None = WU_WINDOW_HU
    keep_aspect: bool = False
    within_lungs: bool = False
    crop_to_body: bool = False

    def image(self, sample: Sample) -> NDArray[np.float16]:
        """Return the image in [0, 1], float16 (slices, rows, columns)."""
        scaled = torch.from_numpy(self._scale(sample))
        if self.within_lungs:
            scaled = scaled * torch.from_numpy(sample.mask(LUNG))
        if self.crop_to_body:
            scaled = scaled[:, *frame(sample)]
        # Each new pixel is a mean over the pixels that it covers, so that a coarse grid does not skip any.
        resized = functional.interpolate(
            self._pad(scaled, sample)[:, None], self.size, mode="bilinear", antialias=True, align_corners=False
        )
        return resized[:, 0].clamp(0, 1).numpy().astype(np.float16)

    def labels(self, labels: NDArray[np.uint8], sample: Sample) -> NDArray[np.uint8]:
        """Return a sample's label map on the network's grid, uint8 (slices, rows, columns)."""
        if self.crop_to_body:
            labels = labels[:, *frame(sample)]
        padded = self._pad(torch.from_numpy(labels), sample)
        resized = functional.interpolate(padded[:, None].float(), self.size, mode="nearest-exact")
        return resized[:, 0].to(torch.uint8).numpy()

    def _scale(self, sample: Sample) -> NDArray[np.float32]:
        if sample.intensity == "gray":
            return sample.image.astype(np.float32) / np.float32(255)
        window = sample.window_hu if self.window_hu == "header" else self.window_hu
        if window is None:
            raise BadData("no-window", f"{sample.name}: no window in the DICOM header; choose a window_hu instead")
        lower, upper = window
        if not lower < upper:
            raise BadData(
                "no-window", f"{sample.name}: the window in the DICOM header has no width; choose a window_hu"
            )
        clipped: NDArray[np.float32] = np.clip(sample.image.astype(np.float32), lower, upper)
        return (clipped - np.float32(lower)) / np.float32(upper - lower)

    def pixel_sides(self, sample: Sample) -> tuple[float, float]:
        """Return how many (rows, columns) of the sample one pixel of the network's image covers."""
        rows, columns = sample.image.shape[1:]
        if self.crop_to_body:
            rows, columns = (where.stop - where.start for where in frame(sample))
        return self._sides(rows, columns, sample)

    def _sides(self, rows: int, columns: int, sample: Sample) -> tuple[float, float]:
        row_side, column_side = rows / self.size[0], columns / self.size[1]
        if not self.keep_aspect:
            return row_side, column_side
        _, row_mm, column_mm = sample.spacing_mm or (1.0, 1.0, 1.0)
        aspect = row_mm / column_mm
        side = max(row_side * aspect, column_side)
        return side / aspect, side

    def _pad(self, image: torch.Tensor, sample: Sample) -> torch.Tensor:
        """Return the image centred in the smallest black frame that has the aspect ratio of ``size`` in the patient.

        Without ``keep_aspect``, the image is returned as it is.
        """
        rows, columns = image.shape[-2:]
        row_side, column_side = self._sides(rows, columns, sample)
        more_rows = round(self.size[0] * row_side) - rows
        more_columns = round(self.size[1] * column_side) - columns
        left, above = more_columns // 2, more_rows // 2
        return functional.pad(image, (left, more_columns - left, above, more_rows - above))


def frame(sample: Sample) -> tuple[slice, slice]:
    """Return the (rows, columns) of the body, extended to hold the lung mask.

    If an image was cropped so that a lung has no chest wall, the lung may lie outside the body that was found.
    """
    rows, columns = body_box(sample.image.astype(np.int16))
    if LUNG in sample.masks and sample.masks[LUNG].any():
        _, lung_rows, lung_columns = bounding_box(sample.masks[LUNG])
        rows, columns = _union(rows, lung_rows), _union(columns, lung_columns)
    return rows, columns


def _union(a: slice, b: slice) -> slice:
    return slice(min(a.start, b.start), max(a.stop, b.stop))
