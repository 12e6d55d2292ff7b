"""The contents of Hilum's objects, read from sample objects of every outcome."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_node.errors import NotAnalysable
from dicom_node.settings import ReportSettings
from tests.factories import chest_hu, ct_series
from tests.worker.reports.content import items, name_of
from tests.worker.reports.results import CUT_OFF, NETWORK, THRESHOLDS, findings_of
from worker.findings import Flag, HuBand
from worker.measure import BAND_EDGES_HU
from worker.reports import codes, context, write_refusal, write_reports
from worker.reports.context import Kind
from worker.reports.identity import IDENTITY, REQUIRED
from worker.volume import read_volume

Rows = Iterator[list[str]]

KINDS = {kind.name: kind for kind in vars(context).values() if isinstance(kind, Kind)}
WRITTEN_WHEN = {
    "lungs": "both lungs were found, and have at most 400 frames together",
    "left-lung": "instead of `lungs`, if only this lung was found, or both have more than 400 frames",
    "right-lung": "instead of `lungs`, if only this lung was found, or both have more than 400 frames",
    "infection": "infection was found",
    "report": "always",
    "key-image": "the study was measured",
    "page": "`report.page` is set",
    "trend": "the study can be compared with at least one earlier study of the patient",
    "rejection-note": "the result replaces an earlier one, and `report.rejection_note` is set",
}
OUTCOMES = ("found", "nothing found", "percentage withheld by a flag", "not analysable")
OF_EVERY_GROUP = (
    *("Tracking Unique Identifier", "Finding Site", "Algorithm Name", "Algorithm Version", "Algorithm Parameters"),
    "Algorithm Family",
)
LONGEST_VALUE = 60


@cache
def samples(number: int) -> dict[str, dict[str, Dataset]]:
    """Return the objects of every outcome, by outcome and kind.

    Samples 0 and 1 differ in everything that may differ between studies, so that constant values can be told apart.
    """
    shape = ((12, 48, 64), (10, 40, 56))[number]
    series: dict[str, Any] = {"spacing_mm": ((6.0, 3.0, 3.0), (7.0, 2.0, 2.5))[number]}
    series |= {"tilt_degrees": (0.0, 5.0)[number], "BodyPartExamined": ("CHEST", "THORAX")[number]}
    shared: dict[str, Any] = {"algorithm": (NETWORK, THRESHOLDS)[number]}
    made_at = datetime(2024, 3, 1 + number, 12, number, tzinfo=UTC)
    hu, labels, infection = chest_hu(shape)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume = read_volume(ct_series(folder / "ct", hu, **series))

        def write(mask: NDArray[np.bool_], *flags: Flag, **others: Any) -> dict[str, Path]:
            out = Path(tempfile.mkdtemp(dir=folder))
            findings = findings_of(volume, labels, mask, flags=flags, **shared)
            written = write_reports(
                volume, findings, out, ReportSettings(rejection_note=True, page=True), made_at, **others
            )
            return {item.kind: item.path for item in written}

        nothing = write(infection & False)
        prior = [dated_before(nothing["report"])] if number == 0 else []
        found = write(infection, earlier=list(nothing.values()), priors=prior)
        withheld = write(infection, CUT_OFF) if number == 0 else {}
        reason = NotAnalysable("missing-slices", "expected a slice every 6 mm, got gaps; send the series again")
        paths = [slice_.path for slice_ in volume.slices]
        (refusal,) = write_refusal(paths, reason, shared["algorithm"], folder, made_at=made_at)
        made = (found, nothing, withheld, {"report": refusal.path})
        return {
            outcome: {kind: dcmread(path) for kind, path in paths.items()}
            for outcome, paths in zip(OUTCOMES, made, strict=True)
        }


def dated_before(report: Path) -> Path:
    """Copy a report as one on the patient's study of two days earlier; return the copy's path."""
    ds = dcmread(report)
    ds.StudyInstanceUID, ds.SOPInstanceUID, ds.StudyDate = "1.2.3", "1.2.3.4", "20240227"
    path = report.with_name("prior.dcm")
    ds.save_as(path)
    return path


def by_kind(number: int = 0) -> dict[str, Dataset]:
    """Return one object of each kind, except of one lung alone, whose object is built like that of both lungs."""
    return samples(number)["found"]


def kinds() -> Rows:
    """Every kind of result; each has its own series."""
    yield ["Kind", "SOP Class", "Series Number", "Series Description", "Segments", "When"]
    made = by_kind()
    for name, kind in KINDS.items():
        ds = made[name if name in made else "lungs"]
        segments = [segment.SegmentLabel for segment in ds.get("SegmentSequence", [])]
        if name.endswith("-lung"):
            segments = [label for label in segments if label.lower() == name.replace("-", " ")]
        row = [f"`{name}`", UID(ds.SOPClassUID).name, str(kind.series_number), kind.series_description]
        yield [*row, ", ".join(segments), WRITTEN_WHEN[name]]


def outcomes() -> Rows:
    """How the objects express each outcome."""
    yield ["Outcome", "CAD Processing and Findings Summary (DCM 111017)", "Completion Flag", "Objects"]
    for outcome, made in samples(0).items():
        report = made["report"]
        (summary,) = (i for i in items(report) if name_of(i) == "CAD Processing and Findings Summary")
        kept = [kind for kind in made if kind not in ("rejection-note", "trend", "page")]
        yield [outcome, coded(summary.ConceptCodeSequence[0]), report.CompletionFlag, ", ".join(kept)]


def attributes(kind: str) -> Rows:
    """Every attribute of a kind of object, and where its value comes from."""
    yield ["Tag", "Attribute", "VR", "Value"]
    first, second = (by_kind(number)[kind] for number in (0, 1))
    for tag in sorted({*first.keys(), *second.keys()}):
        element = first[tag] if tag in first else second[tag]
        always = tag in first and tag in second
        origin = origin_of(element, second[tag] if always else None)
        presence = "" if always else "; not always present"
        yield [f"{tag.group:04X},{tag.element:04X}", element.name, element.VR, origin + presence]


def origin_of(element: DataElement, other: DataElement | None) -> str:
    """Return the value if it is always the same, else its origin."""
    if element.keyword in REQUIRED:
        return "the source's; empty if missing or malformed there"
    if element.keyword in IDENTITY:
        return "the source's"
    if other is not None and element.value == other.value and element.keyword not in ("PixelData",):
        return fixed(element)
    if element.keyword in ("BodyPartExamined", "FrameOfReferenceUID"):
        return "the source's"
    return "a sequence, generated" if element.VR == "SQ" else "generated"


def fixed(element: DataElement) -> str:
    """Return how the table shows a value that is always the same."""
    if element.VR != "SQ":
        shown = "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value)
        return f"`{shown[:LONGEST_VALUE]}`" if shown else "empty"
    if not element.value:
        return "an empty sequence"
    parts = [coded(item) for item in element.value if "CodeValue" in item or "LongCodeValue" in item]
    return ", ".join(parts) or "a sequence, always the same"


def optional_identity() -> Rows:
    """The attributes that are copied from the source's first image."""
    yield ["Attribute", "Presence"]
    yield ["StudyInstanceUID", "always"]
    for keyword in IDENTITY:
        if keyword != "StudyInstanceUID":
            yield [keyword, "always; empty if unknown" if keyword in REQUIRED else "if the source has it"]


def report_content() -> Rows:
    """The report's content tree, with an example of every kind of item."""
    yield ["Content item", "Type", "Example"]
    report = by_kind()["report"]
    yield [coded(report.ConceptNameCodeSequence[0]), "CONTAINER", "TID 1500"]
    yield from content_rows(report, 1)


def content_rows(parent: Dataset, depth: int, *, first: bool = True) -> Rows:
    """Yield the rows of the items below a parent; repeated groups and figures are shown in full only once."""
    groups = 0
    before = ""
    for item in parent.get("ContentSequence", []):
        name = name_of(item) or "Image"
        is_another = item.ValueType == "NUM" and name == before  # such as the areas of slices
        before = name
        if is_another or (not first and name in OF_EVERY_GROUP):
            continue
        groups += name == "Measurement Group"
        yield [f"{'&emsp;' * depth}{name}", item.ValueType, example(item)]
        yield from content_rows(item, depth + 1, first=first and groups < 2)


def example(item: Dataset) -> str:
    """Return the value of a content item, shortened."""
    if item.ValueType == "NUM":
        (value,) = item.MeasuredValueSequence
        return f"{value.NumericValue} {value.MeasurementUnitsCodeSequence[0].CodeValue}"
    if item.ValueType == "CODE":
        return coded(item.ConceptCodeSequence[0])
    if item.ValueType == "TEXT":
        text = str(item.TextValue)
        return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
    return {"UIDREF": "a UID", "IMAGE": "a reference", "CONTAINER": ""}[item.ValueType]


def own_codes() -> Rows:
    """The codes of Hilum's own scheme."""
    yield ["Code", "Scheme", "Meaning"]
    for code in [*all_codes(), *bands()]:
        if code.scheme_designator == codes.HILUM_SCHEME:
            yield [code.value, code.scheme_designator, code.meaning]


def standard_codes() -> Rows:
    """The codes of standard schemes that the objects use."""
    yield ["Code", "Scheme", "Meaning"]
    for code in sorted(all_codes(), key=lambda code: (code.scheme_designator, code.value)):
        if code.scheme_designator != codes.HILUM_SCHEME:
            yield [code.value, code.scheme_designator, code.meaning]


def segments() -> Rows:
    """The structures that are segmented, and their colours."""
    yield ["Segment", "Category", "Type", "Laterality", "Colour (RGB)", "CIELab (0062,000D)"]
    made = by_kind()
    for structure in (codes.LEFT_LUNG, codes.RIGHT_LUNG, codes.INFECTION):
        ds = made["infection" if structure is codes.INFECTION else "lungs"]
        (segment,) = (s for s in ds.SegmentSequence if s.SegmentLabel == structure.label)
        lab = "\\".join(map(str, segment.RecommendedDisplayCIELabValue))
        side = codes.LATERALITY[structure.site].meaning if structure.site != "both" else "not given"
        category, kind = (f"{code.value} {code.meaning}" for code in (structure.category, structure.type))
        yield [structure.label, category, kind, side, ", ".join(map(str, structure.rgb)), lab]


def all_codes() -> list[Code]:
    """Return every code of the reports."""
    return [value for value in vars(codes).values() if isinstance(value, Code)]


def bands() -> list[Code]:
    """Return the codes of the HU bands."""
    edges = (None, *BAND_EDGES_HU, None)
    return [codes.lung_in_band(HuBand(a, b, 0, 0)) for a, b in pairwise(edges)]


def coded(code: Dataset) -> str:
    """Return a code as the standard writes it."""
    return f'({code.CodeValue}, {code.CodingSchemeDesignator}, "{code.CodeMeaning}")'


TABLES: dict[str, Callable[[], Rows]] = {
    "kinds": kinds,
    "outcomes": outcomes,
    "identity": optional_identity,
    "report-content": report_content,
    "segments": segments,
    "own-codes": own_codes,
    "standard-codes": standard_codes,
    "segmentation-attributes": partial(attributes, "lungs"),
    "report-attributes": partial(attributes, "report"),
    "key-image-attributes": partial(attributes, "key-image"),
    "page-attributes": partial(attributes, "page"),
    "rejection-note-attributes": partial(attributes, "rejection-note"),
}
