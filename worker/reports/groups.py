"""The measurement groups of the report (TID 1411 and 1501)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.coding import Code

from worker.comparison import Change
from worker.findings import Findings, Severity, Site
from worker.reports import codes, context
from worker.reports.context import ResultContext
from worker.reports.history import BOTH_LUNGS, CHANGE, TECHNIQUE, History
from worker.reports.outcome import Outcome, outcome_of
from worker.reports.seg import SegmentReference
from worker.reports.sliceareas import SLICE_AREAS
from worker.volume import Volume

Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def groups_of(
    volume: Volume,
    findings: Findings,
    segments: Mapping[str, Sequence[SegmentReference]],
    texts: Sequence[str],
    history: History,
    shared: ResultContext,
) -> Iterator[Group]:
    """Yield every group of a measured study, the summary first."""
    yield summary(_outcome_code(findings), texts, shared)
    yield _infection_group(findings, "both", segments.get(codes.INFECTION.name, ()), shared)
    yield _infection_group(findings, "left", (), shared)
    yield _infection_group(findings, "right", (), shared)
    if history.comparison and history.comparison.change:
        yield _change_group(history.comparison.change, shared)
    yield _lung_group(findings, "both", (), shared)
    yield _lung_group(findings, "left", segments.get(codes.LEFT_LUNG.name, ()), shared)
    yield _lung_group(findings, "right", segments.get(codes.RIGHT_LUNG.name, ()), shared)
    if findings.has_infection:
        yield _largest_area_group(volume, findings, shared)
    if findings.severity:
        yield _severity_group(findings.severity, shared)
    yield _band_group(findings, shared)
    yield _technique_group(volume, shared)
    if findings.has_infection:
        yield _group(SLICE_AREAS, codes.LESION, "both", [], (), shared)  # `add_slice_areas` fills it


def _outcome_code(findings: Findings) -> Code:
    """Return the code for the outcome (PS3.16 CID 6047); a withheld percentage is not a complete success."""
    is_found = findings.has_infection
    if outcome_of(findings) is Outcome.WITHHELD:
        return codes.PARTLY_WITH_FINDINGS if is_found else codes.PARTLY_WITHOUT_FINDINGS
    return codes.SUCCEEDED_WITH_FINDINGS if is_found else codes.SUCCEEDED_WITHOUT_FINDINGS


def summary(outcome: Code, texts: Sequence[str], shared: ResultContext) -> Group:
    """Return the group that states the outcome of the analysis, as a code and as text."""
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


def _lung_group(findings: Findings, site: Site, segments: Sequence[SegmentReference], shared: ResultContext) -> Group:
    figures = findings.measurement(site)
    measurements = [_volume(figures.lung_volume_ml), *_mean_hu(figures.lung_mean_hu)]
    identifier = {"left": "Left lung", "right": "Right lung", "both": BOTH_LUNGS}[site]
    return _group(identifier, codes.LUNG, site, measurements, segments, shared)


def _infection_group(
    findings: Findings, site: Site, segments: Sequence[SegmentReference], shared: ResultContext
) -> Group:
    figures = findings.measurement(site)
    measurements = [_volume(figures.infection_volume_ml), *_mean_hu(figures.infection_mean_hu)]
    if figures.infected_percent is not None:
        percent = _rounded(figures.infected_percent, 2)
        measurements.append(Measurement(codes.INFECTED_PERCENT, percent, codes.PERCENT))
    identifier = codes.INFECTION.tracking_id if site == "both" else f"Infection, {site} lung"
    return _group(identifier, codes.LESION, site, measurements, segments, shared)


def _group(
    identifier: str,
    finding: Code,
    site: Site,
    measurements: Sequence[Measurement],
    segments: Sequence[SegmentReference],
    shared: ResultContext,
) -> Group:
    """Return the measurements of one structure, with a reference to its segment (TID 1411) if it has exactly one.

    TID 1411 can refer to one segment only. A structure with no segment or with several is identified by its tracking
    UID alone (TID 1501).
    """
    uid = segments[0].tracking_uid if segments else shared.uid(identifier, "tracking")
    tracking = TrackingIdentifier(uid=uid, identifier=identifier)
    if len(segments) != 1:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=finding,
            finding_sites=[_site(site)],
            algorithm_id=_algorithm(shared),
            measurements=measurements,
        )
    (segment,) = segments
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


def _largest_area_group(volume: Volume, findings: Findings, shared: ResultContext) -> Group:
    """Return the largest infected area of a slice, with a reference to that slice."""
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
    return _group("Largest infected area of a slice", codes.LESION, "both", [area], (), shared)


def _severity_group(severity: Severity, shared: ResultContext) -> Group:
    scores = (
        (codes.WHOLE_LUNG_SCORE, severity.whole_lung_score),
        (codes.SIX_ZONE_SCORE, severity.six_zone_score),
    )
    measurements = [Measurement(name, value, codes.SCORE) for name, value in scores if value is not None]
    return _group("Severity", codes.LESION, "both", measurements, (), shared)


def _band_group(findings: Findings, shared: ResultContext) -> Group:
    """Return the lung volume in each band of HU; the bands are not findings."""
    volumes = [
        Measurement(codes.lung_in_band(band), _rounded(band.both_ml, 2), codes.MILLILITER) for band in findings.bands
    ]
    return _group("HU bands, both lungs", codes.LUNG, "both", volumes, (), shared)


def _change_group(change: Change, shared: ResultContext) -> Group:
    """Return what changed since the prior study."""
    measurements = [
        Measurement(codes.VOLUME_CHANGE, _rounded(change.infection_ml, 2), codes.MILLILITER),
        Measurement(codes.INFECTED_PERCENT_CHANGE, _rounded(change.infected_percent_points, 2), codes.PERCENT),
    ]
    if not change.is_by_date:  # by date, the hours are unknown
        hours = change.since.total_seconds() / 3600
        measurements.append(Measurement(codes.TIME_SINCE_PRIOR, _rounded(hours, 2), codes.HOUR))
    if change.infection_percent is not None:
        percent = _rounded(change.infection_percent, 1)
        measurements.insert(1, Measurement(codes.VOLUME_CHANGE_PERCENT, percent, codes.PERCENT))
    return _group(CHANGE, codes.LESION, "both", measurements, (), shared)


def _technique_group(volume: Volume, shared: ResultContext) -> Group:
    """Return how the images were acquired; a later study checks this to decide whether the two are comparable."""
    lengths = (
        (codes.SPACING_BETWEEN_SLICES, volume.geometry.spacing_mm[0]),
        (codes.SLICE_THICKNESS, volume.slice_thickness_mm),
    )
    contrast = codes.YES if volume.has_contrast_agent else codes.NO
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=shared.uid(TECHNIQUE, "tracking"), identifier=TECHNIQUE),
        finding_sites=[_site("both")],
        algorithm_id=_algorithm(shared),
        measurements=[Measurement(name, _rounded(mm, 3), codes.MILLIMETER) for name, mm in lengths if mm is not None],
        qualitative_evaluations=[QualitativeEvaluation(codes.CONTRAST_AGENT, contrast)],
    )
    if volume.kernel:
        name = codes.RECONSTRUCTION_ALGORITHM
        group[0].ContentSequence.append(TextContentItem(name, volume.kernel, RelationshipTypeValues.CONTAINS))
    return group


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
    """Return a plain float that fits a decimal string; a value other than zero is never rounded to zero."""
    rounded = round(float(value), decimals)
    return rounded if rounded or not value else float(f"{value:.2g}")


def _site(site: Site) -> FindingSite:
    return FindingSite(codes.LUNG, laterality=codes.LATERALITY[site])


def _algorithm(shared: ResultContext) -> AlgorithmIdentification:
    """Return the identification of the algorithm (TID 4019)."""
    algorithm = shared.algorithm
    parameters = [f"{name}={value}" for name, value in context.algorithm_parameters(algorithm).items()]
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=parameters or None,
        family=context.algorithm_family(algorithm),
    )
