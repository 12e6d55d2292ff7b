"""What a segmentation contains, read without Hilum's own reader."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


def frames_of(segmentation: Dataset, number: int) -> list[tuple[NDArray[np.float64], NDArray[np.bool_], str]]:
    """Return (position, pixels, source UID) of a segment's frames, read according to the standard."""
    pixels = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns).astype(bool)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    frames = []
    for group, image in zip(segmentation.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        identification = group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        if identification[0].ReferencedSegmentNumber == number:
            position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            frames.append((position, image, source))
    return frames


def assert_lies_on(segmentation: Dataset, number: int, mask: NDArray[np.bool_], positions: NDArray) -> None:
    """Assert that a segment is this mask, whose slices lie at these positions."""
    frames = frames_of(segmentation, number)
    assert len(frames) == int(mask.any(axis=(1, 2)).sum())
    for position, image, _ in frames:
        (index,) = np.flatnonzero(np.linalg.norm(positions - position, axis=1) < 1e-3)
        np.testing.assert_array_equal(image, mask[index])
