"""The classes that a network is trained to find, made of annotated structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.datasets.sample import Sample

UNKNOWN = 255
"""Label of pixels that nobody annotated or that lie outside the image; losses and measures ignore them."""


@dataclass(frozen=True)
class TargetClass:
    """A class and the structures whose union it is."""

    name: str
    structures: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """The foreground classes, labelled 1, 2, ...; 0 is the background. A later class covers an earlier one."""

    classes: tuple[TargetClass, ...]

    @classmethod
    def of(cls, *structures: str) -> Target:
        """Return a target with a class for every structure."""
        return cls(tuple(TargetClass(structure, (structure,)) for structure in structures))

    @property
    def names(self) -> tuple[str, ...]:
        """Names by label, the background first."""
        return ("background", *(c.name for c in self.classes))

    def label_map(self, sample: Sample) -> NDArray[np.uint8]:
        """Return labels, uint8 (slices, rows, columns).

        Raises
        ------
        BadData
            When a structure was not annotated.
        """
        labels = np.zeros(sample.image.shape, np.uint8)
        for label, target_class in enumerate(self.classes, start=1):
            for structure in target_class.structures:
                labels[sample.mask(structure)] = label
        return labels
