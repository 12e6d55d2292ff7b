"""Training examples: a slice, three neighbouring slices, or a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.prepare.prepared import Prepared, scans
from training.prepare.stacks import stack_step, window_starts
from training.prepare.target import UNKNOWN


@dataclass(frozen=True)
class Stacking:
    """How scans are cut into examples.

    Parameters
    ----------
    slices : int
        1 for 2D, 3 for 2.5D (Wu et al. 2020, "Network structure"), 12 to 32 for 3D.
    overlap_factor : float
        Overlapping slices / stack size (Shivdeo et al. 2021, section 4.2).
    """

    slices: int = 1
    overlap_factor: float = 0.0

    def starts(self, slices: int) -> list[int]:
        """Return the first slice of every stack of a scan; the last stack may reach beyond the scan."""
        return window_starts(slices, self.slices, stack_step(self.slices, self.overlap_factor))


Place = tuple[Prepared, int]
"""A sample, and one of its slices."""


@dataclass(frozen=True, eq=False)
class Example:
    """Some slices of one scan: arrays of (slices, rows, columns).

    Parameters
    ----------
    scan : sequence of Place
        All slices of the scan, from the feet to the head.
    first : int
        Index of the example's first slice in ``scan``.
    slices : int
    thickness : int
        How many slices of the scan are averaged into each slice of the example.
    """

    name: str
    scan: Sequence[Place]
    first: int
    slices: int
    thickness: int = 1

    @property
    def slice_mm(self) -> float | None:
        """Distance between the scan's slices, if known."""
        return self.scan[self.first][0].slice_mm

    def image(self) -> NDArray[np.float16]:
        """Return the image; if the scan is too short, its last slice is repeated."""
        means = [np.mean([sample.image[z] for sample, z in slab], axis=0, dtype=np.float32) for slab in self._slabs()]
        stack = np.stack(means).astype(np.float16)
        return np.pad(stack, ((0, self.slices - len(stack)), (0, 0), (0, 0)), mode="edge")

    def labels(self) -> NDArray[np.uint8]:
        """Return the labels; if the scan is too short, those beyond its end are ``UNKNOWN``.

        A pixel of a thicker slice has the most frequent label among its slices, in a tie the highest; so partial volume
        of lung and liver is never infection.
        """
        stack = np.stack([_most_frequent([sample.labels[z] for sample, z in slab]) for slab in self._slabs()])
        padding = ((0, self.slices - len(stack)), (0, 0), (0, 0))
        return np.pad(stack, padding, constant_values=UNKNOWN)

    def _slabs(self) -> list[Sequence[Place]]:
        """Return the scan's slices that make up each slice of the example."""
        end = min(self.first + self.slices * self.thickness, len(self.scan))
        return [self.scan[z : min(z + self.thickness, end)] for z in range(self.first, end, self.thickness)]


def cut(prepared: Sequence[Prepared], stacking: Stacking) -> list[Example]:
    """Cut samples into examples; a stack never spans two scans."""
    examples: list[Example] = []
    for scan in scans(prepared):
        places = [(sample, index) for sample in scan for index in range(len(sample.image))]
        examples += [
            Example(f"{scan[0].scan}[{start}]", places, start, stacking.slices)
            for start in stacking.starts(len(places))
        ]
    return examples


def _most_frequent(labels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the most frequent label at each pixel of label maps (rows, columns), in a tie the highest."""
    result, most = labels[0].copy(), np.zeros(labels[0].shape, np.intp)
    for label in np.flatnonzero(np.bincount(np.ravel(labels))) if len(labels) > 1 else ():
        votes = np.sum([one == label for one in labels], axis=0)
        result[votes >= most] = label
        most = np.maximum(most, votes)
    return result
