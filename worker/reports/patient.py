"""Whether two studies are of one patient."""

from __future__ import annotations

from pydicom.dataset import Dataset

from worker.reports.identity import clean

_STATED_ONCE = ("PatientBirthDate", "PatientSex")
"""What nobody has two of: without an issuer, two hospitals may give two people the same number."""


def is_same_patient(one: Dataset, other: Dataset) -> bool:
    """Whether both name one Patient ID and issuer, and no birth date or sex that both state speaks against it.

    A name is not asked for.
    """
    return bool(one.get("PatientID")) and _identifier(one) == _identifier(other) and not _contradict(one, other)


def _identifier(ds: Dataset) -> tuple[str, str]:
    return str(ds.get("PatientID", "")), str(ds.get("IssuerOfPatientID", ""))


def _contradict(one: Dataset, other: Dataset) -> bool:
    stated, also = clean(one, _STATED_ONCE), clean(other, _STATED_ONCE)
    pairs = ((stated.get(keyword), also.get(keyword)) for keyword in _STATED_ONCE)
    return any(a and b and a != b for a, b in pairs)
