"""Patient and study attributes of the source, cleaned so that they can be written into results.

Sources are sloppy: character sets are empty or wrong, dates malformed, attributes missing. Malformed values are
blanked; missing attributes stay missing, or are added empty if required. Nothing is invented, and no identifier is
changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from math import isfinite
from typing import cast

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, format_number_as_ds

IDENTITY = (
    # Patient (PS3.3 C.7.1.1)
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # General Study (C.7.2.1)
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    # Patient Study (C.7.2.2)
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    # Clinical Trial Subject (C.7.1.3)
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    # SOP Common and General Equipment (C.12.1, C.7.5.1)
    "TimezoneOffsetFromUTC",
    "InstitutionName",
)
"""Attributes that every result takes over from its source."""

REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Attributes that must be present, but may be empty if unknown (Type 2)."""

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_FORMS = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9 _]{1,16}"),
    "DA": re.compile(r"\d{8}"),
    "DS": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "IS": re.compile(r"[+-]?\d{1,12}"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
}
_TIMEZONE = re.compile(r"(-(0\d|1[0-2])|\+(0\d|1[0-4]))[0-5]\d")
_SEX = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O"}
_CHARACTER_SET = Tag("SpecificCharacterSet")
_ISO_IR_58_ESCAPE = b"\x1b$)A"


def clean(header: Dataset, keywords: Iterable[str]) -> Dataset:
    """Return these attributes of a header as read from its file, in UTF-8, with malformed values blanked.

    Text stays as it is, even if too long, because patients are looked up by it. Dates, times, codes and numbers that
    violate the format of their value representation (PS3.5 6.2) are blanked, and so is a sex that is none of the
    three values of PS3.3 C.7.1.1. A number that is only too long is rounded. Empty sequences are left out.

    Notes
    -----
    If the character set is absent or unknown, bytes that are valid UTF-8 are decoded as UTF-8, and any others as
    Latin-1, as most archives do.
    """
    tags = [Tag(tag) for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None]
    cleaned = _clean(header, tags, _declared_encodings(header))
    cleaned.SpecificCharacterSet = "ISO_IR 192"
    return cleaned


def identity_of(header: Dataset) -> Dataset:
    """Return patient and study attributes of a header as read from its file; missing required ones are added empty."""
    identity = clean(header, IDENTITY)
    for keyword in REQUIRED:
        if keyword not in identity:
            setattr(identity, keyword, "")
    return identity


def _clean(header: Dataset, tags: Iterable[BaseTag], encodings: list[str]) -> Dataset:
    cleaned = Dataset()
    for tag in tags:
        if tag not in header:
            continue
        vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
        if vr == "SQ" and header[tag].VR == "SQ":
            items = [item for raw in header[tag].value if (item := _clean_item(raw, encodings))]
            if items:  # none of these sequences may be empty, though scanners and de-identification leave them so
                cleaned.add_new(tag, vr, items)
        elif vr in _TEXT_VRS or vr in _FORMS or vr == "UI":
            value = _well_formed(keyword_for_tag(tag), vr, _text(header, tag, vr, encodings))
            cleaned.add_new(tag, vr, value)
    return cleaned


def _clean_item(item: Dataset, encodings: list[str]) -> Dataset:
    """Return an item, decoded by its own character set if it declares one (PS3.5 7.5.3), without declaring it."""
    own = _declared_encodings(item) if item.get("SpecificCharacterSet") else encodings
    return _clean(item, item.keys() - {_CHARACTER_SET}, own)


def _well_formed(keyword: str, vr: str, text: str) -> str:
    """Return the value, or an empty string if it is malformed; spelled-out sexes become their code."""
    if keyword == "PatientSex":
        return _SEX.get(text.upper(), "")
    if keyword == "TimezoneOffsetFromUTC":
        return text if _TIMEZONE.fullmatch(text) else ""
    form = _FORMS.get(vr)
    if form is not None and not all(form.fullmatch(value.strip()) for value in text.split("\\")):
        return ""
    if vr == "DS":
        return "\\".join(map(_within_16_characters, text.split("\\")))
    return text if vr != "DA" or _is_date(text) else ""


def _within_16_characters(number: str) -> str:
    """Return a decimal string, rounded if it is too long (PS3.5 6.2): some scanners write all digits of a weight."""
    if len(number) <= 16:
        return number
    return format_number_as_ds(value) if isfinite(value := float(number)) else ""


def _is_date(text: str) -> bool:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _text(header: Dataset, tag: BaseTag, vr: str, encodings: list[str]) -> str:
    element = cast("DataElement | RawDataElement", header.get_item(tag))  # raw if never accessed
    if isinstance(element, DataElement):  # already decoded
        value = element.value
        return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")
    raw = (element.value or b"").rstrip(b" \0")
    return _decode(raw, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS).strip()


def _decode(value: bytes, encodings: list[str], delimiters: set[int]) -> str:
    if not encodings:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if _ISO_IR_58_ESCAPE in value:  # pydicom leaves these escapes in the text
        return value.replace(_ISO_IR_58_ESCAPE, b"").decode("gb2312", errors="replace")
    return decode_bytes(value, encodings, delimiters)


def _declared_encodings(header: Dataset) -> list[str]:
    """Return Python's names of the declared character sets; an empty list if they are absent or any is unknown."""
    declared = header.get("SpecificCharacterSet") or []
    names = [declared] if isinstance(declared, str) else list(declared)
    if not any(names) or any(name not in python_encoding for name in names):
        return []
    return convert_encodings(names)
