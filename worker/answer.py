"""From the files of a study to its answer: DICOM objects for the PACS, or a reason for the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import NotAnalysable, NotForHilum, RejectedInput
from dicom_node.files import make_folder
from dicom_node.settings import ReportSettings
from dicom_node.study import Ending, JobState
from worker.pipeline import THRESHOLDS, Method, Progress, analyze
from worker.reports import Outcome, WrittenObject, write_refusal, write_reports
from worker.reports.history import Prior, Unmeasured
from worker.reports.outcome import outcome_of


@dataclass(frozen=True)
class Answer:
    """How a job ended, and the objects that go to the PACS."""

    ending: Ending
    objects: tuple[WrittenObject, ...] = ()


def answer_study(
    paths: Sequence[Path],
    rejection: RejectedInput | None,
    out: Path,
    settings: ReportSettings,
    progress: Progress,
    earlier: Sequence[Path] = (),
    priors: Sequence[Path] = (),
    method: Method = THRESHOLDS,
    others: Sequence[Prior | Unmeasured] = (),
) -> Answer:
    """Measure a series and write its reports into a folder.

    A chest CT that cannot be measured gets a report that says why; a study that is not a chest CT gets no report.

    Parameters
    ----------
    rejection : RejectedInput or None
        Why the study cannot be measured, if series selection has already found that out.
    earlier : sequence of Path
        The objects of an earlier answer to the same study, which this one replaces.
    priors : sequence of Path
        Reports on other studies of the patient.
    method : Method
        Segments lungs and infection.
    others : sequence of Prior or Unmeasured
        Other studies of the patient, measured by the same method for the comparison.
    """
    make_folder(out)
    try:
        try:
            if rejection:
                raise rejection
            volume, findings = analyze(paths, method, progress)
            progress("writing the reports", 0.9)
            objects = write_reports(volume, findings, out, settings, earlier=earlier, priors=priors, others=others)
        except NotAnalysable as reason:
            objects = write_refusal(paths, reason, method.algorithm, out, settings, earlier=earlier)
            ending = Ending(JobState.REFUSED, Outcome.NOT_ANALYSABLE, code=reason.code, message=reason.message)
            return Answer(ending, objects)
    except NotForHilum as reason:  # not a chest CT, or its images lack the UIDs by which a report refers to them
        return Answer(Ending(JobState.SET_ASIDE, code=reason.code, message=reason.message))
    percent, flags = findings.measurement("both").infected_percent, tuple(flag.code for flag in findings.flags)
    return Answer(Ending(JobState.DONE, outcome_of(findings), percent, flags), objects)
