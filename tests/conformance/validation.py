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
        "IHE AIR asks for Device UID in Contributing Equipment; the tool's edition (2022) has it in other modules only",
    ),
    Explained(
        DCIODVFY,
        "... Frame Anatomy Sequence, Frame Laterality, Anatomic Region Sequence and its code",
        r"not present in standard DICOM IOD - \(0x(0020,0x907[12]|0008,0x2218|0008,0x010[024])\)",
        "says which lung a segmentation is of; without it PixelMed misses the series' Laterality, which for the chest "
        "must not be there",
    ),
    Explained(
        DCIODVFY,
        "this is a Standard Extended SOP Class",
        r"contains attributes not present in standard DICOM IOD",
        "follows from the two above",
    ),
    Explained(
        DCIODVFY,
        "Unrecognized defined term 99HILUM",
        r"Unrecognized defined term <99HILUM>",
        "a private coding scheme, as PS3.16 section 8 allows; the report identifies it",
    ),
    Explained(
        DCIODVFY,
        "Missing attribute or value that would be needed to build DICOMDIR; Value dubious",
        r"needed to build DICOMDIR|[Dd]ubious",
        "the source's own: its attributes are carried over, and nothing is invented",
    ),
    Explained(
        PIXELMED_SR,
        "Content Item not in template",
        r"Content Item not in template",
        "with a title outside CID 7021, which may be extended, the tool looks into nothing below it; with DCM 126000 "
        "it does, and says so of what TID 1500 as an extensible template allows: algorithms (TID 4019), comments, "
        "technique, and the images of areas",
    ),
    Explained(
        PIXELMED_SR,
        "has different code meaning",
        r"has different code meaning",
        "highdicom writes the meaning of DCM 121232 with capitals, the standard without; the code is what counts",
    ),
    *(
        Explained(
            tool,
            "Unrecognized defined term ISO_IR 192",
            r"SpecificCharacterSet.*Unrecognized defined term :ISO_IR 192",
            "UTF-8, which the tool's list lacks; it also takes ideographs in a name for an error",
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
        "in reports that refer to label maps, a segmentation that the tool's edition (2022) does not know",
    ),
    Explained(
        PIXELMED_SR,
        "Template 1411: Missing conditional content item",
        r"^Error: Template 1411 .*: Missing conditional content item",
        "with the title DCM 126000: as soon as one group has a segment, the tool asks for one of all groups, though "
        "TID 1500 allows TID 1501 beside TID 1411",
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
    yield ["Tool", "Error", "Why it is none"]
    for mistake in MISTAKEN:
        yield [mistake.tool, mistake.said, mistake.reason]


def studies() -> Iterator[list[str]]:
    """What the validators reported on real studies."""
    yield ["Study", "Outcomes", "Objects", "Looked at", "Errors", "Unexplained warnings"]
    rows = json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]
    for study, of_study in groupby((row for row in rows if row["objects"]), key=lambda row: row["study"]):
        found = list(of_study)
        names = ", ".join(row["outcome"].partition(":")[0] for row in found)
        sums = [sum(row[name] for row in found) for name in ("objects", "looks", "errors", "unexplained")]
        yield [study, names, *map(str, sums)]
    yield [", ".join(row["study"] for row in rows if not row["objects"]), "nothing is sent", "0", "0", "0", "0"]


def warnings() -> Iterator[list[str]]:
    """Every kind of warning, with its reason."""
    yield ["Tool", "Warning", "Why it stays"]
    for explained in WARNINGS:
        yield [explained.tool, explained.said, explained.reason]


TABLES: dict[str, Callable[[], Iterator[list[str]]]] = {
    "warnings": warnings,
    "mistakes": mistakes,
    "studies": studies,
}
