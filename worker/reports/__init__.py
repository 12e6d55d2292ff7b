"""Reports: DICOM SEG, SR, pictures and a page to print, made from the findings, for every outcome."""

from worker.reports.outcome import Outcome
from worker.reports.write import WrittenObject, write_refusal, write_reports

__all__ = ["Outcome", "WrittenObject", "write_refusal", "write_reports"]
