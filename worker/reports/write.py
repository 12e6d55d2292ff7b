"""Write findings to files: every DICOM object of a result, and the result as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from highdicom.seg import SegmentationTypeValues
from pydicom.dataset import Dataset

from dicom_node.errors import RejectedInput
from dicom_node.settings import ReportSettings
from dicom_node.study import Result
from worker.findings import Algorithm, Findings, Severity
from worker.reports import context
from worker.reports.context import Kind, ResultContext, result_key
from worker.reports.history import History, Prior, Unmeasured, history_of
from worker.reports.keyimage import build_key_image
from worker.reports.labelmap import label_maps
from worker.reports.outcome import Outcome, conclusion, outcome_of
from worker.reports.page import build_page, draw_page
from worker.reports.picture import draw_picture, slices_of_picture
from worker.reports.revision import build_rejection_note, read_earlier
from worker.reports.seg import SegmentReference, build_segmentation, segment_references
from worker.reports.source import Source, read_source, source_of
from worker.reports.sr import build_refusal, build_report, ranked_sentences, refusing_sentences
from worker.reports.trend import draw_trend
from worker.volume import Volume


@dataclass(frozen=True)
class WrittenObject(Result):
    """A DICOM object of a result, with its file and its series."""

    series_instance_uid: str


def write_reports(
    volume: Volume,
    findings: Findings,
    out: Path,
    settings: ReportSettings = ReportSettings(),
    made_at: datetime | None = None,
    earlier: Sequence[Path] = (),
    priors: Sequence[Path] = (),
    others: Sequence[Prior | Unmeasured] = (),
) -> tuple[WrittenObject, ...]:
    """Write every object of a measured study into a folder, with ``results.json`` and ``key-image.png``.

    Parameters
    ----------
    out : Path
        An existing folder. Files are closed but not synced to disk; the caller does that.
    made_at : datetime or None
        When the result was made, with a time zone; now if None.
    earlier : sequence of Path
        Files of the result that this one replaces.
    priors : sequence of Path
        Reports on other studies; only Hilum's own reports on this patient are used for the comparison.
    others : sequence of Prior or Unmeasured
        Other studies of the patient without a report: measured for the comparison, or the reason why not.

    Returns
    -------
    tuple of WrittenObject
        Segmentations first, then the report that refers to them, then the pictures, the page and the rejection
        note.
    """
    findings.geometry.require_same(volume.geometry)
    source = source_of(volume)
    replaced = read_earlier(earlier)
    history = history_of(volume, findings, source.identity, priors, others)
    related = [*_uids(replaced), *history.uids]
    key = result_key(source, findings.algorithm, volume=volume, settings=_as_text(settings), related=related)
    shared = ResultContext(source, findings.algorithm, key, made_at or datetime.now(UTC), replaced)
    written = []
    segments: dict[str, list[SegmentReference]] = {}
    form = SegmentationTypeValues(settings.segmentation)
    for label_map in label_maps(findings, form):
        segmentation = build_segmentation(volume, label_map, shared, form)
        for name, reference in segment_references(segmentation, label_map, shared).items():
            segments.setdefault(name, []).append(reference)
        written.append(_write(segmentation, label_map.kind, out))
    report = build_report(volume, findings, segments, history, shared, settings.title)
    written.append(_write(report, context.REPORT, out))
    picture = draw_picture(volume, findings)
    picture.save(out / "key-image.png", compress_level=1)  # takes half the time, for a seventh more bytes
    shown = [volume.slices[index] for index in slices_of_picture(findings)]
    written.append(_write(build_key_image(picture, shown, shared, context.KEY_IMAGE), context.KEY_IMAGE, out))
    if len(history.curve) > 1:
        trend = build_key_image(draw_trend(history.curve), shown, shared, context.TREND)
        written.append(_write(trend, context.TREND, out))
    if settings.page:
        page = draw_page(source.identity, ranked_sentences(findings, history), picture)
        made_of = [(slice_.sop_class_uid, slice_.sop_instance_uid) for slice_ in shown]
        written.append(_write(build_page(page, made_of, shared), context.PAGE, out))
    written.extend(_withdraw_earlier(shared, settings, out))
    _write_results(out, measured_results(findings, history), source, findings.algorithm, written)
    return tuple(written)


def write_refusal(
    paths: Sequence[Path],
    reason: RejectedInput,
    algorithm: Algorithm,
    out: Path,
    settings: ReportSettings = ReportSettings(),
    made_at: datetime | None = None,
    earlier: Sequence[Path] = (),
) -> tuple[WrittenObject, ...]:
    """Write the report that says why a series could not be measured, from its headers alone.

    Raises
    ------
    NotForHilum
        None of the files can be read as a DICOM image, so there is no study to report on.
    PassingFailure
        The storage fails, as for `read_source`.
    """
    source = read_source(paths)
    replaced = read_earlier(earlier)
    related = [*_uids(replaced), reason.code, reason.message]
    key = result_key(source, algorithm, settings=_as_text(settings), related=related)
    shared = ResultContext(source, algorithm, key, made_at or datetime.now(UTC), replaced)
    written = [_write(build_refusal(reason, shared, settings.title), context.REPORT, out)]
    if settings.page:
        page = draw_page(source.identity, refusing_sentences(reason), None)
        made_of = [(image.SOPClassUID, image.SOPInstanceUID) for image in source.images]
        written.append(_write(build_page(page, made_of, shared), context.PAGE, out))
    written.extend(_withdraw_earlier(shared, settings, out))
    results = {
        "outcome": Outcome.NOT_ANALYSABLE,
        "conclusion": reason.message,
        "reason": {"code": reason.code, "message": reason.message},
    }
    _write_results(out, results, source, algorithm, written)
    return tuple(written)


def _withdraw_earlier(shared: ResultContext, settings: ReportSettings, out: Path) -> Iterator[WrittenObject]:
    if settings.rejection_note and shared.earlier:
        yield _write(build_rejection_note(shared.earlier, shared), context.REJECTION_NOTE, out)


def _uids(objects: Sequence[Dataset]) -> list[str]:
    return [str(ds.SOPInstanceUID) for ds in objects]


def measured_results(findings: Findings, history: History) -> dict[str, Any]:
    """Return the findings and the comparison as plain values, without any attributes of the patient."""
    return {
        "outcome": outcome_of(findings),
        "conclusion": conclusion(findings),
        "measurements": {m.site: _rounded(asdict(m)) for m in findings.measurements},
        "severity": _severity(findings.severity),
        "hu_bands": [_rounded(asdict(band) | {"both_ml": band.both_ml}) for band in findings.bands],
        "comparison": _compared(history),
        "not_compared": [other.reason for other in history.unmeasured],
        "flags": [asdict(flag) for flag in findings.flags],
        "regions": [_rounded(asdict(region)) for region in findings.regions],
        "areas": {
            "lung_mm2": [round(float(area), 1) for area in findings.areas.lung_mm2],
            "infection_mm2": [round(float(area), 1) for area in findings.areas.infection_mm2],
        },
    }


def _compared(history: History) -> dict[str, Any] | None:
    if history.comparison is None or history.prior is None:
        return None
    change = history.comparison.change
    figures = _rounded(asdict(change)) if change else {}
    since, is_by_date = figures.pop("since", None), figures.pop("is_by_date", False)
    return {
        "prior_study_instance_uid": history.prior.study_instance_uid,
        "prior_was_measured_now": history.prior.was_measured_now,
        "why_none": history.comparison.obstacle,
        "doubt": history.comparison.doubt,
        "hours_since": None if since is None or is_by_date else round(since.total_seconds() / 3600, 3),
        **figures,
        "is_rapid": change.is_rapid if change else False,
    }


def _severity(severity: Severity | None) -> dict[str, Any] | None:
    if severity is None:
        return None
    return {
        "whole_lung_score": severity.whole_lung_score,
        "six_zone_score": severity.six_zone_score,
        "zones": [_rounded(asdict(zone)) for zone in severity.zones],
    }


def _write(ds: Dataset, kind: Kind, out: Path) -> WrittenObject:
    path = out / f"{kind.name}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return WrittenObject(
        path=path,
        kind=kind.name,
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        series_instance_uid=str(ds.SeriesInstanceUID),
        transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
    )


def _write_results(
    out: Path, results: dict[str, Any], source: Source, algorithm: Algorithm, written: Sequence[WrittenObject]
) -> None:
    document = {
        "study_instance_uid": str(source.first.StudyInstanceUID),
        "series_instance_uid": str(source.first.SeriesInstanceUID),
        **results,
        "algorithm": asdict(algorithm) | {"settings": dict(algorithm.settings)},
        "objects": [asdict(item) | {"path": item.path.name} for item in written],
    }
    (out / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(float(value), 3) if isinstance(value, float) else value for name, value in values.items()}


def _as_text(settings: ReportSettings) -> tuple[tuple[str, str], ...]:
    """Return the settings that change results, in the form in which UIDs derive from them."""
    return ("title", settings.title), ("segmentation", settings.segmentation)
