"""Segmentations of lungs and infection, aligned exactly with the source's slices."""

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

from dicom_node.study import MANUFACTURER
from worker.reports import codes, context
from worker.reports.codes import Structure
from worker.reports.context import ResultContext
from worker.reports.labelmap import BINARY, LABELMAP, LabelMap
from worker.reports.segframes import add_frames
from worker.volume import Volume


@dataclass(frozen=True)
class SegmentReference:
    """A reference to a structure's segment, for the report."""

    sop_class_uid: UID
    sop_instance_uid: UID
    series_instance_uid: UID
    segment_number: int
    tracking_uid: UID


def build_segmentation(
    volume: Volume, label_map: LabelMap, shared: ResultContext, form: SegmentationTypeValues = BINARY
) -> Dataset:
    """Return the segmentation of a label map.

    highdicom builds everything but the frames, from a single plane; `add_frames` adds them. See `segframes` for why.
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
    ds = Dataset()  # a Segmentation would keep using what it knows of the single plane
    ds.update(segmentation)
    ds.file_meta = segmentation.file_meta
    groups = ds.SharedFunctionalGroupsSequence[0]
    groups.FrameAnatomySequence = [_frame_anatomy(label_map)]
    measures = groups.PixelMeasuresSequence[0]
    if "SliceThickness" not in measures:  # the source names none; the mask's voxels fill the whole spacing
        measures.SliceThickness = format_number_as_ds(volume.geometry.spacing_mm[0])
    add_frames(ds, volume, label_map, form)
    if form is LABELMAP:
        ds["PixelPaddingValue"].VR = "US"  # the VR is US or SS; US, as the pixels are unsigned
        # highdicom puts the background first. OHIF 3.13 numbers segments by their position, starting at the first item,
        # and so would give each segment the colour of the one before; the background therefore goes last.
        ds.SegmentSequence.append(ds.SegmentSequence.pop(0))
    shared.complete(ds, label_map.kind)
    # Mark it as read from a file in this encoding, so that pydicom writes the sequences of `add_frames` unchanged.
    encodings = convert_encodings(ds.SpecificCharacterSet)
    ds.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=encodings)
    return ds


def segment_references(
    segmentation: Dataset, label_map: LabelMap, shared: ResultContext
) -> dict[str, SegmentReference]:
    """Return a reference to each structure's segment, by the structure's name."""
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
    """Return the tracking UID by which SEG and SR identify the same structure."""
    return shared.uid(structure.name, "tracking")


def _plane(shared: ResultContext) -> Dataset:
    """Return the source's first plane as a single-frame image, even if it is part of a multi-frame object."""
    plane = Dataset()
    plane.update(shared.source.first)
    plane.add_new("SOPClassUID", "UI", CTImageStorage)  # a new element: the source's must not change
    return plane


def _frame_anatomy(label_map: LabelMap) -> Dataset:
    """Return the Frame Anatomy (PS3.3 C.7.6.16.2.8); with its laterality, the series needs no Laterality."""
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
            source=MANUFACTURER,
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
