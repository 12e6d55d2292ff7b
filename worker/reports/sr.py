"""The structured report: Comprehensive 3D SR, TID 1500, for every outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node.errors import RejectedInput
from worker.findings import Findings, Severity, Site
from worker.reports import codes, context
from worker.reports.context import ResultContext
from worker.reports.outcome import Outcome, conclusion, describe_zones, outcome_of
from worker.reports.revision import reports_among
from worker.reports.seg import SegmentReference
from worker.volume import Volume

_Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations

_CAVEAT = "Computed automatically and not reviewed by a physician. Not for diagnostic use."


def build_report(
    volume: Volume,
    findings: Findings,
    segments: Mapping[str, SegmentReference],
    shared: ResultContext,
    title: Code,
) -> Comprehensive3DSR:
    """Return the report of a measured study.

    Parameters
    ----------
    segments : mapping
        Where each structure's segment stands, by the structure's name; one that is absent has no voxel.
    title : Code
        Of the document. OHIF 3.13 shows DCM 126000 as an empty viewport, others as text.
    """
    outcome = outcome_of(findings)
    zones = [describe_zones(findings.severity)] if findings.severity else []
    texts = [conclusion(findings), *zones, *(flag.message for flag in findings.flags), _CAVEAT]
    groups = [
        _summary(_outcome_code(findings), texts, shared),
        _infection_group(findings, "both", segments.get(codes.INFECTION.name), shared),
        _infection_group(findings, "left", None, shared),
        _infection_group(findings, "right", None, shared),
        _lung_group(findings, "both", None, shared),
        _lung_group(findings, "left", segments.get(codes.LEFT_LUNG.name), shared),
        _lung_group(findings, "right", segments.get(codes.RIGHT_LUNG.name), shared),
    ]
    if findings.infection.array.any():
        groups.append(_largest_area_group(volume, findings, shared))
    if findings.severity:
        groups.append(_severity_group(findings.severity, shared))
    groups.append(_band_group(findings, shared))
    return _document(groups, segments, shared, title, is_complete=outcome is not Outcome.WITHHELD)


def build_refusal(reason: RejectedInput, shared: ResultContext, title: Code) -> Comprehensive3DSR:
    """Return the report that a study could not be measured, and why; it holds no figure."""
    texts = ["Not analysed. No figure is given.", f"Reason: {reason.message}", _CAVEAT]
    group = _summary(codes.NONE_SUCCEEDED, texts, shared)
    return _document([group], {}, shared, title, is_complete=False)


def _document(
    groups: Sequence[_Group],
    segments: Mapping[str, SegmentReference],
    shared: ResultContext,
    title: Code,
    *,
    is_complete: bool,
) -> Comprehensive3DSR:
    # No image library (TID 1600, optional): viewers list it line by line before the findings. The evidence names the
    # images all the same.
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=context.device_observer(shared.algorithm)),
        procedure_reported=codes.CT,
        imaging_measurements=groups,
        title=title,
    )
    report = Comprehensive3DSR(
        evidence=[*shared.source.images, *_segmentations(segments, shared)],
        content=content[0],
        is_complete=is_complete,
        is_final=False,
        is_verified=False,
        previous_versions=reports_among(shared.earlier) or None,
        coding_schemes=[codes.HILUM_SCHEME_IDENTIFICATION],
        **shared.arguments(context.REPORT),
    )
    _separate(report)
    shared.complete(report, context.REPORT)
    return report


def _outcome_code(findings: Findings) -> Code:
    """Return how the analysis went (PS3.16 CID 6047); it went not wholly well where a flag withholds."""
    is_found = bool(findings.infection.array.any())
    if outcome_of(findings) is Outcome.WITHHELD:
        return codes.PARTLY_WITH_FINDINGS if is_found else codes.PARTLY_WITHOUT_FINDINGS
    return codes.SUCCEEDED_WITH_FINDINGS if is_found else codes.SUCCEEDED_WITHOUT_FINDINGS


def _summary(outcome: Code, texts: Sequence[str], shared: ResultContext) -> _Group:
    """Return the group that says how the analysis went, in a code and in words."""
    evaluations = [QualitativeEvaluation(codes.FINDINGS_SUMMARY, outcome)]
    if outcome not in (codes.SUCCEEDED_WITH_FINDINGS, codes.SUCCEEDED_WITHOUT_FINDINGS):
        evaluations.append(QualitativeEvaluation(codes.QUALITY_FINDING, codes.INSUFFICIENT_QUALITY))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=shared.uid("summary", "tracking"), identifier="Summary"),
        finding_sites=[_site("both")],
        algorithm_id=_algorithm(shared),
        qualitative_evaluations=evaluations,
    )
    names = [codes.CONCLUSION, *[codes.COMMENT] * (len(texts) - 1)]
    group[0].ContentSequence.extend(
        TextContentItem(name, text, RelationshipTypeValues.CONTAINS) for name, text in zip(names, texts, strict=True)
    )
    return group


def _lung_group(findings: Findings, site: Site, segment: SegmentReference | None, shared: ResultContext) -> _Group:
    figures = findings.measurement(site)
    measurements = [_volume(figures.lung_volume_ml), *_mean_hu(figures.lung_mean_hu)]
    identifier = {"left": "Left lung", "right": "Right lung", "both": "Both lungs"}[site]
    return _group(identifier, codes.LUNG, site, measurements, segment, shared)


def _infection_group(findings: Findings, site: Site, segment: SegmentReference | None, shared: ResultContext) -> _Group:
    figures = findings.measurement(site)
    measurements = [_volume(figures.infection_volume_ml), *_mean_hu(figures.infection_mean_hu)]
    if figures.infected_percent is not None:
        percent = _rounded(figures.infected_percent, 2)
        measurements.append(Measurement(codes.INFECTED_PERCENT, percent, codes.PERCENT))
    identifier = codes.INFECTION.tracking_id if site == "both" else f"Infection, {site} lung"
    return _group(identifier, codes.LESION, site, measurements, segment, shared)


def _group(
    identifier: str,
    finding: Code,
    site: Site,
    measurements: Sequence[Measurement],
    segment: SegmentReference | None,
    shared: ResultContext,
) -> _Group:
    """Return the figures of one structure, with its segment (TID 1411) where it has one (else TID 1501)."""
    uid = segment.tracking_uid if segment else shared.uid(identifier, "tracking")
    tracking = TrackingIdentifier(uid=uid, identifier=identifier)
    if segment is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=finding,
            finding_sites=[_site(site)],
            algorithm_id=_algorithm(shared),
            measurements=measurements,
        )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        finding_type=finding,
        finding_sites=[_site(site)],
        algorithm_id=_algorithm(shared),
        measurements=measurements,
        referenced_segment=ReferencedSegment(
            sop_class_uid=segment.sop_class_uid,
            sop_instance_uid=segment.sop_instance_uid,
            segment_number=segment.segment_number,
            source_series=SourceSeriesForSegmentation(shared.source.first.SeriesInstanceUID),
        ),
    )


def _largest_area_group(volume: Volume, findings: Findings, shared: ResultContext) -> _Group:
    """Return the largest infected area of a slice, with the slice."""
    index = int(np.argmax(findings.areas.infection_mm2))
    where = volume.slices[index]
    area = Measurement(
        codes.AREA,
        _rounded(findings.areas.infection_mm2[index], 1),
        codes.SQUARE_MILLIMETER,
        derivation=codes.MAXIMUM,
        referenced_images=[
            SourceImageForMeasurement(
                where.sop_class_uid,
                where.sop_instance_uid,
                [where.frame_number] if where.frame_number is not None else None,
            )
        ],
    )
    return _group("Largest infected area of a slice", codes.LESION, "both", [area], None, shared)


def _severity_group(severity: Severity, shared: ResultContext) -> _Group:
    scores = (
        (codes.WHOLE_LUNG_SCORE, severity.whole_lung_score),
        (codes.SIX_ZONE_SCORE, severity.six_zone_score),
    )
    measurements = [Measurement(name, value, codes.SCORE) for name, value in scores]
    return _group("Severity", codes.LESION, "both", measurements, None, shared)


def _band_group(findings: Findings, shared: ResultContext) -> _Group:
    """Return the lung's volume in each band of HU: bands, not findings."""
    volumes = [
        Measurement(codes.lung_in_band(band), _rounded(band.both_ml, 2), codes.MILLILITER) for band in findings.bands
    ]
    return _group("HU bands, both lungs", codes.LUNG, "both", volumes, None, shared)


def _volume(volume_ml: float) -> Measurement:
    return Measurement(codes.VOLUME, _rounded(volume_ml, 2), codes.MILLILITER)


def _mean_hu(mean_hu: float | None) -> Iterator[Measurement]:
    if mean_hu is not None:
        yield Measurement(
            codes.ATTENUATION_COEFFICIENT,
            _rounded(mean_hu, 1),
            codes.HOUNSFIELD_UNIT,
            derivation=codes.MEAN,
        )


def _rounded(value: float, decimals: int) -> float:
    """Return a plain float that fits a decimal string; what is not zero never becomes zero."""
    rounded = round(float(value), decimals)
    return rounded if rounded or not value else float(f"{value:.2g}")


def _site(site: Site) -> FindingSite:
    return FindingSite(codes.LUNG, laterality=codes.LATERALITY[site])


def _algorithm(shared: ResultContext) -> AlgorithmIdentification:
    """Return TID 4019."""
    algorithm = shared.algorithm
    parameters = [f"{name}={value}" for name, value in context.algorithm_parameters(algorithm).items()]
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=parameters or None,
        family=context.algorithm_family(algorithm),
    )


def _separate(item: Dataset) -> None:
    """Say of every container that its items read one by one: OHIF 3.13 labels them only then."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        _separate(child)


def _segmentations(segments: Mapping[str, SegmentReference], shared: ResultContext) -> Iterator[Dataset]:
    """Yield what the report's evidence needs of each segmentation it refers to."""
    for segment in segments.values():
        evidence = Dataset()
        evidence.SOPClassUID = segment.sop_class_uid
        evidence.SOPInstanceUID = segment.sop_instance_uid
        evidence.SeriesInstanceUID = segment.series_instance_uid
        evidence.StudyInstanceUID = shared.source.first.StudyInstanceUID
        yield evidence
