"""Label maps: non-overlapping structures of the findings, grouped so that each map becomes one segmentation object."""

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
"""Weasis turns off segmentations with more frames than this (nroduit/Weasis#680)."""

_INFECTED = 1


@dataclass(frozen=True)
class Segment:
    """A structure in a label map: its voxel value, and the ascending indices of the slices that contain it."""

    structure: Structure
    value: int
    slices: tuple[int, ...]


@dataclass(frozen=True)
class LabelMap:
    """Structures that do not overlap, in a uint8 (slice, row, column) array that may also hold other structures."""

    kind: Kind
    labels: NDArray[np.uint8]
    segments: tuple[Segment, ...]

    @property
    def slices(self) -> list[int]:
        """The ascending indices of the slices that contain any of the structures."""
        return sorted({index for segment in self.segments for index in segment.slices})


def label_maps(findings: Findings, form: SegmentationTypeValues = BINARY) -> Iterator[LabelMap]:
    """Yield one label map for each segmentation object to write; a structure without voxels is in none.

    Both lungs share one object, unless it would have more than ``MAX_FRAMES`` frames. A single structure with more
    slices than that is split over several objects. A BINARY object has one frame for each slice and lung, a LABELMAP
    object one frame for each slice.
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
    """Yield one structure as one label map for every ``MAX_FRAMES`` of its slices."""
    parts = [segment.slices[start : start + MAX_FRAMES] for start in range(0, len(segment.slices), MAX_FRAMES)]
    for number, slices in enumerate(parts, 1):
        yield LabelMap(kind.part(number, len(parts)), labels, (replace(segment, slices=slices),))


def _segment(labels: NDArray[np.uint8], value: int, structure: Structure) -> Segment:
    # Slice by slice, the data stays in the processor's cache: ten times as fast as the whole array at once.
    return Segment(structure, value, tuple(i for i, plane in enumerate(labels) if (plane == value).any()))
