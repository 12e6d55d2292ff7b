"""Check whether two studies belong to the same patient."""

from __future__ import annotations

from pydicom.dataset import Dataset

from worker.reports.identity import clean

_STATED_ONCE = ("PatientBirthDate", "PatientSex")
"""Attributes of which a person has only one value.

They are compared because without an issuer, two hospitals may have given the same Patient ID to different people.
"""


def is_same_patient(one: Dataset, other: Dataset) -> bool:
    """Whether both have the same Patient ID and issuer, and no birth date or sex stated in both differs.

    The patient's name is not compared.
    """
    return bool(one.get("PatientID")) and _identifier(one) == _identifier(other) and not _contradict(one, other)


def _identifier(ds: Dataset) -> tuple[str, str]:
    return str(ds.get("PatientID", "")), str(ds.get("IssuerOfPatientID", ""))


def _contradict(one: Dataset, other: Dataset) -> bool:
    stated, also = clean(one, _STATED_ONCE), clean(other, _STATED_ONCE)
    pairs = ((stated.get(keyword), also.get(keyword)) for keyword in _STATED_ONCE)
    return any(a and b and a != b for a, b in pairs)
