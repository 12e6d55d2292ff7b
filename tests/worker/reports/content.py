"""What a structured report contains, read without Hilum's own reader."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

SITE_GROUPS = {
    "left": ("Left lung", "Infection, left lung"),
    "right": ("Right lung", "Infection, right lung"),
    "both": ("Both lungs", "Infection, both lungs"),
}
"""The measurement groups of each site's lung and infection."""


def items(ds: Dataset) -> Iterator[Dataset]:
    """Yield every content item of a document."""
    for item in ds.get("ContentSequence", []):
        yield item
        yield from items(item)


def name_of(item: Dataset) -> str:
    """Return the code meaning of an item's concept name; empty if it has none."""
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if "ConceptNameCodeSequence" in item else ""


def texts(report: Dataset) -> list[str]:
    """Return the report's sentences."""
    return [i.TextValue for i in items(report) if i.ValueType == "TEXT" and name_of(i) in ("Conclusion", "Comment")]


def group(report: Dataset, tracking_identifier: str) -> Dataset:
    """Return the measurement group with this Tracking Identifier."""
    (found,) = (
        item
        for item in items(report)
        if item.ValueType == "CONTAINER"
        and any(i.ValueType == "TEXT" and i.TextValue == tracking_identifier for i in item.get("ContentSequence", []))
    )
    return found


def figures(container: Dataset) -> dict[str, tuple[float, str]]:
    """Return value and unit of each measurement of a group, by its name."""
    values = {}
    for item in container.ContentSequence:
        if item.ValueType == "NUM":
            (value,) = item.MeasuredValueSequence
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            values[name_of(item)] = (float(value.NumericValue), unit)
    return values
