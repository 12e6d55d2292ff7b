"""What validators report on Hilum's objects, and why: their warnings, and errors that are mistakes of a tool."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "conformance.json"
DCIODVFY, PIXELMED_SR, PIXELMED = "dciodvfy", "DicomSRValidator", "DicomInstanceValidator"


@dataclass(frozen=True)
class Explained:
    """A warning or error of a tool, as a pattern that its line matches, and the reason why it stays."""

    tool: str
    said: str
    pattern: str
    reason: str


WARNINGS = (
    Explained(
        DCIODVFY,
        "Attribute is not present in standard DICOM IOD: Device UID",
        r"not present in standard DICOM IOD - \(0x0018,0x1002\)",
        "IHE AIR requires Device UID in Contributing Equipment; the tool's edition (2022) has it only in other modules",
    ),
    Explained(
        DCIODVFY,
        "... Frame Anatomy Sequence, Frame Laterality, Anatomic Region Sequence and its code",
        r"not present in standard DICOM IOD - \(0x(0020,0x907[12]|0008,0x2218|0008,0x010[024])\)",
        "these say which lung is segmented; without them, PixelMed asks for the series' Laterality, which must be "
        "absent for the chest",
    ),
    Explained(
        DCIODVFY,
        "this is a Standard Extended SOP Class",
        r"contains attributes not present in standard DICOM IOD",
        "follows from the two warnings above",
    ),
    Explained(
        DCIODVFY,
        "Unrecognized defined term 99HILUM",
        r"Unrecognized defined term <99HILUM>",
        "99HILUM is a private coding scheme, which PS3.16 section 8 allows; the report identifies it",
    ),
    Explained(
        DCIODVFY,
        "Missing attribute or value that would be needed to build DICOMDIR; Value dubious",
        r"needed to build DICOMDIR|[Dd]ubious",
        "the values are those of the source: its attributes are copied, and nothing is invented",
    ),
    Explained(
        PIXELMED_SR,
        "Content Item not in template",
        r"Content Item not in template",
        "CID 7021 may be extended, but the tool checks nothing below a title outside it; below DCM 126000, it warns "
        "about items that TID 1500 allows because it is extensible: algorithms (TID 4019), comments, technique, and "
        "the images of areas",
    ),
    Explained(
        PIXELMED_SR,
        "has different code meaning",
        r"has different code meaning",
        "highdicom writes the meaning of DCM 121232 with capitals, the standard without; only the code counts",
    ),
    *(
        Explained(
            tool,
            "Unrecognized defined term ISO_IR 192",
            r"SpecificCharacterSet.*Unrecognized defined term :ISO_IR 192",
            "ISO_IR 192 is UTF-8, which the tool's list lacks; the tool also reports ideographs in a name as an error",
        )
        for tool in (PIXELMED, PIXELMED_SR)
    ),
)
"""One explanation for each kind of warning; a test checks that every warning has one."""


MISTAKEN = (
    Explained(
        DCIODVFY,
        "Referenced Segment Number: shall not be present for Referenced SOP Class that is not segmentation",
        r"Referenced SOP Class that is not segmentation - attribute <ReferencedSegmentNumber>",
        "the report refers to a label map, a kind of segmentation that the tool's edition (2022) does not know",
    ),
    Explained(
        PIXELMED_SR,
        "Template 1411: Missing conditional content item",
        r"^Error: Template 1411 .*: Missing conditional content item",
        "with the title DCM 126000, if one group has a segment, the tool expects one in every group, although TID 1500 "
        "allows TID 1501 beside TID 1411",
    ),
)
"""Errors that are mistakes of the tool, not of the object."""


def unexplained(tool: str, lines: Iterable[str]) -> list[str]:
    """Return the warnings of a tool that no explanation matches."""
    patterns = [re.compile(explained.pattern) for explained in WARNINGS if explained.tool == tool]
    said = [line for line in lines if line.startswith("Warning")]
    return [line for line in said if not any(pattern.search(line) for pattern in patterns)]


def errors(tool: str, lines: Iterable[str]) -> list[str]:
    """Return the errors that a tool reports, except its own mistakes."""
    patterns = [re.compile(mistake.pattern) for mistake in MISTAKEN if mistake.tool == tool]
    said = [line for line in lines if line.startswith("Error")]
    return [line for line in said if not any(pattern.search(line) for pattern in patterns)]


def mistakes() -> Iterator[list[str]]:
    """Every error that is a mistake of the tool, with the reason."""
    yield ["Tool", "Error", "Why it is not one"]
    for mistake in MISTAKEN:
        yield [mistake.tool, mistake.said, mistake.reason]


def studies() -> Iterator[list[str]]:
    """What the validators reported on real studies."""
    yield ["Study", "Outcomes", "Objects", "Checks by tools", "Errors", "Unexplained warnings"]
    rows = json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]
    for study, of_study in groupby((row for row in rows if row["objects"]), key=lambda row: row["study"]):
        found = list(of_study)
        names = ", ".join(row["outcome"].partition(":")[0] for row in found)
        sums = [sum(row[name] for row in found) for name in ("objects", "looks", "errors", "unexplained")]
        yield [study, names, *map(str, sums)]
    yield [", ".join(row["study"] for row in rows if not row["objects"]), "nothing is sent", "0", "0", "0", "0"]


def warnings() -> Iterator[list[str]]:
    """Every kind of warning, with its reason."""
    yield ["Tool", "Warning", "Why it is accepted"]
    for explained in WARNINGS:
        yield [explained.tool, explained.said, explained.reason]


TABLES: dict[str, Callable[[], Iterator[list[str]]]] = {
    "warnings": warnings,
    "mistakes": mistakes,
    "studies": studies,
}
