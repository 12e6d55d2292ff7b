"""Segmentations: lungs and infection, laid exactly on the source's slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import format_number_as_ds

from worker.findings import LEFT, RIGHT, Findings
from worker.reports import codes, context
from worker.reports.codes import Structure
from worker.reports.context import Kind, ResultContext
from worker.volume import Volume

BINARY, LABELMAP = SegmentationTypeValues.BINARY, SegmentationTypeValues.LABELMAP
MAX_FRAMES = 400
"""Weasis turns off segmentations of more frames (nroduit/Weasis#680)."""


@dataclass(frozen=True)
class SegmentReference:
    """Where a structure's segment stands, for the report to refer to."""

    sop_class_uid: UID
    sop_instance_uid: UID
    series_instance_uid: UID
    segment_number: int
    tracking_uid: UID


@dataclass(frozen=True)
class LabelMap:
    """Structures that do not overlap, as one uint8 (slice, row, column) array: 0 outside, n the n-th."""

    kind: Kind
    labels: NDArray[np.uint8]
    structures: tuple[Structure, ...]


def label_maps(findings: Findings, form: SegmentationTypeValues = BINARY) -> Iterator[LabelMap]:
    """Yield what becomes one segmentation each; a structure without a voxel is in none.

    Both lungs stand in one object, unless that would have more frames than some viewers show. A BINARY one has
    a frame for each slice and lung, a LABELMAP one a frame a slice.
    """
    lungs = findings.lungs.labels
    # A plane at a time stays in the processor's cache: ten times as fast as all at once.
    slices = {label: np.array([(plane == label).any() for plane in lungs]) for label in (LEFT, RIGHT)}
    frames = {label: int(np.count_nonzero(inside)) for label, inside in slices.items()}
    together = np.count_nonzero(slices[LEFT] | slices[RIGHT]) if form is LABELMAP else sum(frames.values())
    if all(frames.values()) and together <= MAX_FRAMES:
        yield LabelMap(context.LUNGS, lungs, (codes.LEFT_LUNG, codes.RIGHT_LUNG))
    else:
        for label, kind, lung in (
            (LEFT, context.LEFT_LUNG, codes.LEFT_LUNG),
            (RIGHT, context.RIGHT_LUNG, codes.RIGHT_LUNG),
        ):
            if frames[label]:
                yield LabelMap(kind, (lungs == label).view(np.uint8), (lung,))
    if findings.infection.array.any():
        yield LabelMap(context.INFECTION, findings.infection.array.view(np.uint8), (codes.INFECTION,))


def build_segmentation(
    volume: Volume, label_map: LabelMap, shared: ResultContext, form: SegmentationTypeValues = BINARY
) -> Segmentation:
    """Return the segmentation of a label map, each segment's empty frames left out (PS3.3 A.51, A.90)."""
    segmentation = Segmentation(
        source_images=list(shared.source.images),
        pixel_array=_in_source_order(volume, label_map.labels, shared),
        segmentation_type=form,
        segment_descriptions=[
            _describe(number, structure, shared) for number, structure in enumerate(label_map.structures, 1)
        ],
        transfer_syntax_uid=RLELossless if form is LABELMAP else ExplicitVRLittleEndian,
        content_label="HILUM",
        content_description=label_map.kind.series_description,
        **shared.arguments(label_map.kind),
    )
    groups = segmentation.SharedFunctionalGroupsSequence[0]
    groups.FrameAnatomySequence = [_frame_anatomy(label_map)]
    measures = groups.PixelMeasuresSequence[0]
    if "SliceThickness" not in measures:  # the source names none: a mask's own voxels fill the spacing
        measures.SliceThickness = format_number_as_ds(volume.geometry.spacing_mm[0])
    if form is LABELMAP:
        # OHIF 3.13 counts segments from the first item on, and so gives each the colour of the one before.
        segmentation.SegmentSequence.append(segmentation.SegmentSequence.pop(0))
    shared.complete(segmentation, label_map.kind)
    return segmentation


def segment_references(
    segmentation: Segmentation, label_map: LabelMap, shared: ResultContext
) -> dict[str, SegmentReference]:
    """Return where each structure's segment stands, by the structure's name."""
    return {
        structure.name: SegmentReference(
            UID(segmentation.SOPClassUID),
            UID(segmentation.SOPInstanceUID),
            UID(segmentation.SeriesInstanceUID),
            number,
            tracking_uid(structure, shared),
        )
        for number, structure in enumerate(label_map.structures, 1)
    }


def tracking_uid(structure: Structure, shared: ResultContext) -> UID:
    """Return the UID by which SEG and SR speak of the same structure."""
    return shared.uid(structure.name, "tracking")


def _in_source_order(volume: Volume, labels: NDArray[np.uint8], shared: ResultContext) -> NDArray[np.uint8]:
    """Return one plane for each source image or frame, as highdicom expects unchecked.

    Single images are read in the volume's order; a multi-frame object keeps its own, and its frames outside
    the volume get empty planes, which are left out.
    """
    if not shared.source.is_multi_frame:
        return labels
    planes = np.zeros((int(shared.source.first.NumberOfFrames), *labels.shape[1:]), np.uint8)
    planes[[slice_.frame_number - 1 for slice_ in volume.slices if slice_.frame_number is not None]] = labels
    return planes


def _frame_anatomy(label_map: LabelMap) -> Dataset:
    """Return which side the frames are of (PS3.3 C.7.6.16.2.8), so that no laterality of the series is missed."""
    sites = {structure.site for structure in label_map.structures}
    anatomy = Dataset()
    anatomy.FrameLaterality = "L" if sites == {"left"} else "R" if sites == {"right"} else "B"
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(codes.LUNG)]
    return anatomy


def _describe(number: int, structure: Structure, shared: ResultContext) -> SegmentDescription:
    algorithm = shared.algorithm
    description = SegmentDescription(
        segment_number=number,
        segment_label=structure.label,
        segmented_property_category=structure.category,
        segmented_property_type=structure.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm.name,
            version=algorithm.version,
            family=context.algorithm_family(algorithm),
            source=context.MANUFACTURER,
            parameters=context.algorithm_parameters(algorithm) or None,
        ),
        tracking_uid=tracking_uid(structure, shared),
        tracking_id=structure.tracking_id,
        anatomic_regions=[codes.LUNG] if structure.type != codes.LUNG else None,
        display_color=CIELabColor.from_rgb(*structure.rgb),
    )
    if structure.site != "both":
        laterality = CodedConcept.from_code(codes.LATERALITY[structure.site])
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [laterality]
    return description
