"""Neighbouring thin slices, averaged and read as one: they show nearly the same, and their mean has less noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Slabs:
    """A scan's slices in groups.

    Parameters
    ----------
    slices : int
        Number of slices in the scan.
    slices_each : int
        Number of slices in a slab; the last slab may have fewer.
    """

    slices: int
    slices_each: int = 1

    @classmethod
    def about(cls, mm: float, slices: int, spacing_mm: float) -> Self:
        """Return slabs of as many slices as fit into ``mm``, but of at least one slice."""
        return cls(slices, max(1, int(mm / spacing_mm + 1e-6)))

    def __len__(self) -> int:
        return math.ceil(self.slices / self.slices_each)

    def mean(self, hu: NDArray[np.int16], slab: int) -> NDArray[np.float32]:
        """Return the mean of a slab's slices, given the HU of all slices (slices, rows, columns)."""
        first = slab * self.slices_each
        mean: NDArray[np.float32] = hu[first : first + self.slices_each].mean(axis=0, dtype=np.float32)
        return mean

    def at(self, values: NDArray[np.float32], z: int) -> NDArray[np.float32]:
        """Return the values at slice ``z``, interpolated between the middles of slabs from values (slabs, ...)."""
        below = min(int(self._places[z]), len(self) - 1)
        above = min(below + 1, len(self) - 1)
        share = np.float32(self._places[z] - below)
        between: NDArray[np.float32] = values[below] + share * (values[above] - values[below])
        return between

    @cached_property
    def _places(self) -> NDArray[np.float64]:
        """Where each slice lies between the middles of slabs, as a fractional index of a slab."""
        edges = np.minimum(np.arange(len(self) + 1) * self.slices_each, self.slices)
        middles = (edges[:-1] + edges[1:] - 1) / 2
        return np.interp(np.arange(self.slices), middles, np.arange(len(self)))
