"""Segmentations: lungs and infection, laid exactly on the source's slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import format_number_as_ds

from worker.reports import codes, context
from worker.reports.codes import Structure
from worker.reports.context import ResultContext
from worker.reports.labelmap import BINARY, LABELMAP, LabelMap
from worker.reports.segframes import add_frames
from worker.volume import Volume


@dataclass(frozen=True)
class SegmentReference:
    """Where a structure's segment stands, for the report to refer to."""

    sop_class_uid: UID
    sop_instance_uid: UID
    series_instance_uid: UID
    segment_number: int
    tracking_uid: UID


def build_segmentation(
    volume: Volume, label_map: LabelMap, shared: ResultContext, form: SegmentationTypeValues = BINARY
) -> Dataset:
    """Return the segmentation of a label map.

    highdicom makes it of a single plane: all that is no frame. See `segframes` for why it does not make them all.
    """
    segmentation = Segmentation(
        source_images=[_plane(shared)],
        pixel_array=np.ones((1, *volume.geometry.shape[1:]), np.uint8),
        segmentation_type=form,
        segment_descriptions=[
            _describe(number, segment.structure, shared) for number, segment in enumerate(label_map.segments, 1)
        ],
        transfer_syntax_uid=RLELossless if form is LABELMAP else ExplicitVRLittleEndian,
        content_label="HILUM",
        content_description=label_map.kind.series_description,
        **shared.arguments(label_map.kind),
    )
    ds = Dataset()  # a Segmentation would go on with what it knows of the single plane
    ds.update(segmentation)
    ds.file_meta = segmentation.file_meta
    groups = ds.SharedFunctionalGroupsSequence[0]
    groups.FrameAnatomySequence = [_frame_anatomy(label_map)]
    measures = groups.PixelMeasuresSequence[0]
    if "SliceThickness" not in measures:  # the source names none: a mask's own voxels fill the spacing
        measures.SliceThickness = format_number_as_ds(volume.geometry.spacing_mm[0])
    add_frames(ds, volume, label_map, form)
    if form is LABELMAP:
        ds["PixelPaddingValue"].VR = "US"  # of US or SS, as the pixels are unsigned
        # OHIF 3.13 counts segments from the first item on, and so gives each the colour of the one before.
        ds.SegmentSequence.append(ds.SegmentSequence.pop(0))
    shared.complete(ds, label_map.kind)
    # As of a file read so: then pydicom writes the sequences that `add_frames` encoded as they are.
    encodings = convert_encodings(ds.SpecificCharacterSet)
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=encodings)
    return ds


def segment_references(
    segmentation: Dataset, label_map: LabelMap, shared: ResultContext
) -> dict[str, SegmentReference]:
    """Return where each structure's segment stands, by the structure's name."""
    return {
        segment.structure.name: SegmentReference(
            UID(segmentation.SOPClassUID),
            UID(segmentation.SOPInstanceUID),
            UID(segmentation.SeriesInstanceUID),
            number,
            tracking_uid(segment.structure, shared),
        )
        for number, segment in enumerate(label_map.segments, 1)
    }


def tracking_uid(structure: Structure, shared: ResultContext) -> UID:
    """Return the UID by which SEG and SR speak of the same structure."""
    return shared.uid(structure.name, "tracking")


def _plane(shared: ResultContext) -> Dataset:
    """Return the source's first plane as an image of its own, which it need not be."""
    plane = Dataset()
    plane.update(shared.source.first)
    plane.add_new("SOPClassUID", "UI", CTImageStorage)  # in place of the element, which is the source's own
    return plane


def _frame_anatomy(label_map: LabelMap) -> Dataset:
    """Return which side the frames are of (PS3.3 C.7.6.16.2.8), so that no laterality of the series is missed."""
    sites = {segment.structure.site for segment in label_map.segments}
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
