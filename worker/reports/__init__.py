"""Reports: findings to DICOM SEG, SR and key image, for every outcome."""

from worker.reports.outcome import Outcome
from worker.reports.write import WrittenObject, write_refusal, write_reports

__all__ = ["Outcome", "WrittenObject", "write_refusal", "write_reports"]
