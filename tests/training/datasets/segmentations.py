"""Segmentations as other software writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from worker.reports.uids import derive_uid

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LESION = Code("52988006", "SCT", "Lesion")
LUNG = Code("39607008", "SCT", "Lung")


def segment(number: int, label: str, kind: Code = LESION) -> SegmentDescription:
    """Return the description of a segment that somebody drew."""
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=ANATOMY if kind == LUNG else ABNORMAL,
        segmented_property_type=kind,
        algorithm_type="MANUAL",
    )


def write_seg(
    path: Path,
    images: Sequence[Path],
    masks: NDArray[np.uint8] | NDArray[np.float32],
    descriptions: Sequence[SegmentDescription],
) -> None:
    """Write a SEG of masks (slices, rows, columns, segments) in the order of the images.

    Masks of uint8 are written as BINARY, masks of float32 (shares of 0 to 1) as FRACTIONAL. Without the last axis they
    are a label map, written as LABELMAP.
    """
    kind = "LABELMAP" if masks.ndim == 3 else "BINARY" if masks.dtype == np.uint8 else "FRACTIONAL"
    segmentation = highdicom.seg.Segmentation(
        source_images=[dcmread(image) for image in images],
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Someone",
        manufacturer_model_name="Viewer",
        software_versions="1",
        device_serial_number="1",
    )
    segmentation.save_as(path)


def make_hilums(path: Path) -> None:
    """Let a SEG be one that Hilum made itself, as ``hilum label`` does."""
    ds = dcmread(path)
    ds.Manufacturer, ds.SOPInstanceUID = "Hilum", derive_uid("first labels")
    ds.save_as(path)
