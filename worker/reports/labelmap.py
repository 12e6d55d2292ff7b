"""What becomes one segmentation each: the structures of the findings that do not overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray

from worker.findings import LEFT, RIGHT, Findings
from worker.reports import codes, context
from worker.reports.codes import Structure
from worker.reports.context import Kind

BINARY, LABELMAP = SegmentationTypeValues.BINARY, SegmentationTypeValues.LABELMAP
MAX_FRAMES = 400
"""Weasis turns off segmentations of more frames (nroduit/Weasis#680)."""

_INFECTED = 1


@dataclass(frozen=True)
class Segment:
    """A structure in a label map: its value there, and the indices of the slices that hold it, ascending."""

    structure: Structure
    value: int
    slices: tuple[int, ...]


@dataclass(frozen=True)
class LabelMap:
    """Structures that do not overlap, in a uint8 (slice, row, column) array that may hold others too."""

    kind: Kind
    labels: NDArray[np.uint8]
    segments: tuple[Segment, ...]

    @property
    def slices(self) -> list[int]:
        """The indices of the slices that hold any of the structures, ascending."""
        return sorted({index for segment in self.segments for index in segment.slices})


def label_maps(findings: Findings, form: SegmentationTypeValues = BINARY) -> Iterator[LabelMap]:
    """Yield what becomes one segmentation each; a structure without a voxel is in none.

    Both lungs stand in one object, unless that would have more frames than some viewers show; a structure that
    has more by itself stands in several. A BINARY object has a frame for each slice and lung, a LABELMAP one a
    frame a slice.
    """
    labels = findings.lungs.labels
    left = _segment(labels, LEFT, codes.LEFT_LUNG)
    right = _segment(labels, RIGHT, codes.RIGHT_LUNG)
    both = LabelMap(context.LUNGS, labels, (left, right))
    frames = len(both.slices) if form is LABELMAP else len(left.slices) + len(right.slices)
    if left.slices and right.slices and frames <= MAX_FRAMES:
        yield both
    else:
        yield from _in_parts(context.LEFT_LUNG, labels, left)
        yield from _in_parts(context.RIGHT_LUNG, labels, right)
    infection = findings.infection.array.view(np.uint8)
    yield from _in_parts(context.INFECTION, infection, _segment(infection, _INFECTED, codes.INFECTION))


def _in_parts(kind: Kind, labels: NDArray[np.uint8], segment: Segment) -> Iterator[LabelMap]:
    """Yield a structure in as many objects as its slices need."""
    parts = [segment.slices[start : start + MAX_FRAMES] for start in range(0, len(segment.slices), MAX_FRAMES)]
    for number, slices in enumerate(parts, 1):
        yield LabelMap(kind.part(number, len(parts)), labels, (replace(segment, slices=slices),))


def _segment(labels: NDArray[np.uint8], value: int, structure: Structure) -> Segment:
    # A plane at a time stays in the processor's cache: ten times as fast as all at once.
    return Segment(structure, value, tuple(i for i, plane in enumerate(labels) if (plane == value).any()))
