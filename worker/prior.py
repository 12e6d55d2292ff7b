"""Measure an earlier study that has no report, in the same way as the new one, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from dicom_node.dispatch.selection import select_series
from dicom_node.errors import NotAnalysable, NotForHilum, PassingFailure, RejectedInput
from dicom_node.headers import SeriesHeader, read_series
from dicom_node.log import get_logger
from dicom_node.settings import SelectionSettings
from worker.comparison import elapsed, is_order_unknown
from worker.pipeline import Method, Progress, analyze
from worker.reports.history import Prior, Unmeasured, measured_now, taken_at, untimed
from worker.reports.patient import is_same_patient
from worker.reports.source import read_source

_ORDER_UNKNOWN = "order-unknown"

log = get_logger()


def measure_fetched(
    paths: Sequence[Path], now: Sequence[Path], settings: SelectionSettings, method: Method, progress: Progress
) -> Iterator[Prior | Unmeasured]:
    """Measure the earlier study whose images the node fetched; yield it, or the reason why it could not be measured.

    Nothing is yielded if the images are not of an earlier study of the same patient: the issuer of the Patient ID may
    differ, which not every PACS tells when it is queried. A study of the same day is yielded as `Untimed` if a missing
    time leaves the order of the two unknown. Whose study it is, and when it was taken, is told by the images of the
    series that is to be measured: others may have been stored in the study by mistake.
    """
    try:
        chosen = choose_series(read_series(paths), settings)
    except RejectedInput as reason:
        return _tell(paths, now, partial(_refuse, reason))
    return _tell(chosen, now, lambda: measure_prior(chosen, method, progress))


def leave_out_fetched(paths: Sequence[Path], now: Sequence[Path], reason: str) -> Iterator[Prior | Unmeasured]:
    """Yield the earlier study whose images the node fetched as `Unmeasured` for this reason.

    Otherwise it is told as by `measure_fetched`. If the storage fails to read its images, it is yielded without its
    date, because a prior that is left out must not stop the study.
    """
    try:
        yield from _tell(paths, now, partial(_refuse, NotAnalysable("left-out", reason)))
    except PassingFailure:
        yield Unmeasured(None, reason)


def _refuse(reason: RejectedInput) -> Prior:
    raise reason


def _tell(paths: Sequence[Path], now: Sequence[Path], measure: Callable[[], Prior]) -> Iterator[Prior | Unmeasured]:
    """Yield what ``measure`` returns, or why it was rejected, if the images are of an earlier study of the patient."""
    try:
        require_earlier(paths, now)
    except NotForHilum as reason:
        log.warning("prior_left_out", code=reason.code, reason=reason.message)
        if reason.code == _ORDER_UNKNOWN:
            then, uid = _identify(paths)
            if then:
                yield untimed(then, uid)
        return
    try:
        yield measure()
    except RejectedInput as reason:
        then, uid = _identify(paths)
        yield Unmeasured(then, reason.message, uid)


def _identify(paths: Sequence[Path]) -> tuple[date | None, str]:
    """Return when a study was taken, and its UID."""
    source = read_source(paths[:1])
    return taken_at(source.identity), str(source.first.StudyInstanceUID)


def choose_series(found: Sequence[SeriesHeader], settings: SelectionSettings) -> list[Path]:
    """Return the files of a study's series that is to be measured.

    Raises
    ------
    RejectedInput
        No series of the study can be measured.
    """
    selection = select_series(found, settings)
    if selection.rejection:
        raise selection.rejection
    return [image.path for image in selection.series.ct_images] if selection.series else []


def measure_prior(paths: Sequence[Path], method: Method, progress: Progress) -> Prior:
    """Measure a series of an earlier study; no report is written about it.

    Raises
    ------
    NotAnalysable, NotForHilum
        As `analyze`.
    """
    volume, findings = analyze(paths, method, progress)
    return measured_now(volume, findings, read_source(paths))


def require_earlier(before: Sequence[Path], now: Sequence[Path]) -> None:
    """Refuse anything but an earlier study of the same patient, before it is measured.

    Raises
    ------
    NotForHilum
        The patient is another or unknown, or the study is not earlier; with the code ``order-unknown`` if both studies
        are of the same day and a time is missing.
    """
    earlier, this = (read_source(paths[:1]).identity for paths in (before, now))
    if not is_same_patient(earlier, this):
        raise NotForHilum(
            "another-patient",
            "expected a prior of the same patient, by Patient ID and its issuer and without another birth date or sex, "
            "got another's or nobody's",
        )
    then, today = taken_at(earlier), taken_at(this)
    if then is None or today is None or elapsed(then, today) <= timedelta(0):
        code = _ORDER_UNKNOWN if is_order_unknown(then, today) else "not-earlier"
        raise NotForHilum(code, "expected a prior taken before the study, by Study Date and Time of both")
