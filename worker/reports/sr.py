"""The structured report: Comprehensive 3D SR, TID 1500, for every outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from highdicom.sr import Comprehensive3DSR, MeasurementReport, ObservationContext
from pydicom.dataset import Dataset

from dicom_node.errors import RejectedInput
from worker.findings import Findings
from worker.reports import codes, context
from worker.reports.context import ResultContext
from worker.reports.groups import Group, groups_of, summary
from worker.reports.history import History
from worker.reports.outcome import Outcome, conclusion, describe_zones, outcome_of
from worker.reports.revision import reports_among
from worker.reports.seg import SegmentReference
from worker.reports.sentences import describe
from worker.reports.sliceareas import add_slice_areas
from worker.volume import Volume

_TITLES = {
    f"{code.scheme_designator} {code.value}": code
    for code in (codes.DIAGNOSTIC_IMAGING_REPORT, codes.IMAGING_MEASUREMENT_REPORT)
}
_CAVEAT = "Computed automatically and not reviewed by a physician. Not for diagnostic use."


def build_report(
    volume: Volume,
    findings: Findings,
    segments: Mapping[str, Sequence[SegmentReference]],
    history: History,
    shared: ResultContext,
    title: str,
) -> Comprehensive3DSR:
    """Return the report of a measured study.

    Parameters
    ----------
    segments : mapping
        References to each structure's segments, by the structure's name. A structure that is absent has no voxels; one
        with too many slices for a single object has several segments.
    title : str
        Document title, as in the settings. OHIF 3.13 shows DCM 126000 as an empty viewport, others as text.
    """
    groups = list(groups_of(volume, findings, segments, sentences(findings, history), history, shared))
    evidence = [*_segmentations(segments, shared), *(history.prior.evidence if history.prior else [])]
    report = _document(groups, evidence, shared, title, is_complete=outcome_of(findings) is not Outcome.WITHHELD)
    if findings.has_infection:
        add_slice_areas(report, volume, findings)
    return report


def build_refusal(reason: RejectedInput, shared: ResultContext, title: str) -> Comprehensive3DSR:
    """Return the report that says why a study could not be measured; it contains no figures."""
    group = summary(codes.NONE_SUCCEEDED, refusing_sentences(reason), shared)
    return _document([group], [], shared, title, is_complete=False)


def sentences(findings: Findings, history: History) -> list[str]:
    """Return the report's sentences on a measured study, the conclusion first."""
    zones = [describe_zones(findings.severity)] if findings.severity else []
    return [conclusion(findings), *describe(history), *zones, *(flag.message for flag in findings.flags), _CAVEAT]


def ranked_sentences(findings: Findings, history: History) -> list[str]:
    """Return the same sentences, the most important first, for a page that may not have room for all.

    Flags that withhold the percentage are not repeated, because the conclusion states them.
    """
    doubts = [flag.message for flag in findings.flags if not flag.withholds_percentage]
    zones = [describe_zones(findings.severity)] if findings.severity else []
    return [conclusion(findings), _CAVEAT, *doubts, *describe(history), *zones]


def refusing_sentences(reason: RejectedInput) -> list[str]:
    """Return the report's sentences on a study that could not be measured."""
    return ["Not analysed. No figure is given.", f"Reason: {reason.message}", _CAVEAT]


def _document(
    groups: Sequence[Group],
    evidence: Sequence[Dataset],
    shared: ResultContext,
    title: str,
    *,
    is_complete: bool,
) -> Comprehensive3DSR:
    # The optional image library (TID 1600) is left out, because viewers list it line by line before the findings. The
    # evidence sequence lists the images anyway.
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=context.device_observer(shared.algorithm)),
        procedure_reported=codes.CT,
        imaging_measurements=groups,
        title=_TITLES[title],
    )
    report = Comprehensive3DSR(
        evidence=[*shared.source.images, *evidence],
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


def _separate(item: Dataset) -> None:
    """Set Continuity of Content of every container to SEPARATE; only then does OHIF 3.13 label the items."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        _separate(child)


def _segmentations(segments: Mapping[str, Sequence[SegmentReference]], shared: ResultContext) -> Iterator[Dataset]:
    """Yield the UIDs of each segmentation that the report refers to, for its evidence sequence."""
    for segment in chain.from_iterable(segments.values()):
        evidence = Dataset()
        evidence.SOPClassUID = segment.sop_class_uid
        evidence.SOPInstanceUID = segment.sop_instance_uid
        evidence.SeriesInstanceUID = segment.series_instance_uid
        evidence.StudyInstanceUID = shared.source.first.StudyInstanceUID
        yield evidence
