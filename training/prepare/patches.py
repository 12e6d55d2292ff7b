"""Patches around candidate regions, for Wu et al.'s classifier ("Using a classifier", 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from worker.networks.classifier import PatchClassifier
from worker.networks.network import Layout, Network, SegmentationNetwork

SIZE = 64
"""Rows and columns of a patch; the paper names no size."""

INFECTED_SHARE = 0.5
"""A candidate is infection if at least this share of its pixels is annotated as such."""


@dataclass(frozen=True, eq=False)
class CandidatePatch:
    """A connected region of one slice, and the square around it.

    Parameters
    ----------
    region : ndarray of bool, shape (rows, columns)
    patch : ndarray of float16, shape (SIZE, SIZE)
    is_infection : bool
        By the annotation.
    """

    slice_index: int
    region: NDArray[np.bool_]
    patch: NDArray[np.float16]
    is_infection: bool


def find_patches(
    image: NDArray[np.float16], predicted: NDArray[np.bool_], true: NDArray[np.bool_]
) -> list[CandidatePatch]:
    """Return every connected region of every slice of a prediction; all arrays are (slices, rows, columns)."""
    found = []
    for index, plane in enumerate(predicted):
        components = sitk.ConnectedComponent(sitk.GetImageFromArray(plane.astype(np.uint8)))
        labels = sitk.GetArrayFromImage(components)
        for label in range(1, int(labels.max()) + 1):
            region = labels == label
            share = np.count_nonzero(region & true[index]) / np.count_nonzero(region)
            found.append(CandidatePatch(index, region, cut_patch(image[index], region), bool(share >= INFECTED_SHARE)))
    return found


def cut_patch(plane: NDArray[np.float16], region: NDArray[np.bool_]) -> NDArray[np.float16]:
    """Return the minimum circumscribed square of a region, resized to ``SIZE``; it is black beyond the image."""
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    top, left = (int(places[0] + places[-1] + 1 - side) // 2 for places in (rows, columns))
    padded = np.pad(plane, side)
    square = padded[top + side : top + 2 * side, left + side : left + 2 * side].astype(np.float32)
    resized = functional.interpolate(
        torch.from_numpy(square)[None, None], (SIZE, SIZE), mode="bilinear", antialias=True
    )
    return resized[0, 0].numpy().astype(np.float16)


class PatchMap(SegmentationNetwork):
    """The classifier as a segmentation network whose output is the same at every pixel of a patch.

    So it can be trained like all segmentation networks: (n, 1, SIZE, SIZE) to (n, 1, SIZE, SIZE).
    """

    layout: ClassVar[Layout] = "2d"

    def __init__(self) -> None:
        super().__init__()
        self.classes = 1
        self.divisors = (1, 1, 1)
        self.classifier: Network = PatchClassifier()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.classifier(x)
        return logits[:, :, None, None].expand_as(x)
