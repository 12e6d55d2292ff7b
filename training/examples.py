"""What one step of training sees: a slice, three neighbours, or a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.prepared import Prepared, scans
from training.scan import stack_step, window_starts
from training.target import UNKNOWN


@dataclass(frozen=True)
class Stacking:
    """How scans are cut into examples.

    Parameters
    ----------
    slices : int
        1 for 2D, 3 for 2.5D (Wu et al. 2020, "Network structure"), 32 or 12 for 3D.
    overlap_factor : float
        Overlapping slices / stack size (Shivdeo et al. 2021, section 4.2).
    """

    slices: int = 1
    overlap_factor: float = 0.0

    def starts(self, slices: int) -> list[int]:
        """Return the first slice of every stack of a scan; the last stack may reach beyond it."""
        return window_starts(slices, self.slices, stack_step(self.slices, self.overlap_factor))


@dataclass(frozen=True, eq=False)
class Example:
    """Some slices of one scan: arrays of (slices, rows, columns), views where that is possible."""

    name: str
    parts: tuple[tuple[Prepared, slice], ...]
    slices: int

    def image(self) -> NDArray[np.float16]:
        """Return the image, the last slice repeated where the scan is too short."""
        stack = np.concatenate([sample.image[where] for sample, where in self.parts])
        return np.pad(stack, ((0, self.slices - len(stack)), (0, 0), (0, 0)), mode="edge")

    def labels(self) -> NDArray[np.uint8]:
        """Return the labels, unknown where the scan is too short."""
        stack = np.concatenate([sample.labels[where] for sample, where in self.parts])
        padding = ((0, self.slices - len(stack)), (0, 0), (0, 0))
        return np.pad(stack, padding, constant_values=UNKNOWN)


def cut(prepared: Sequence[Prepared], stacking: Stacking) -> list[Example]:
    """Cut samples into examples; a stack never spans two scans."""
    examples = []
    for scan in scans(prepared):
        places = [(sample, index) for sample in scan for index in range(len(sample.image))]
        for start in stacking.starts(len(places)):
            chosen = places[start : start + stacking.slices]
            parts = tuple((sample, slice(index, index + 1)) for sample, index in chosen)
            examples.append(Example(f"{scan[0].scan}[{start}]", parts, stacking.slices))
    return examples
