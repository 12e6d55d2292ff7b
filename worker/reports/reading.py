"""Read values from the measurement groups of a report (TID 1500)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from worker.reports import codes


def groups(item: Dataset) -> Iterator[Dataset]:
    """Yield the measurement groups below a report or one of its content items."""
    for child in item.get("ContentSequence", []):
        if _has_name(child, codes.MEASUREMENT_GROUP):
            yield child
        else:
            yield from groups(child)


def texts(group: Dataset, name: Code) -> list[str]:
    """Return the values of a group's text items that have this concept name."""
    return [str(item.TextValue) for item in _named(group, name)]


def figure(group: Dataset, name: Code) -> float | None:
    """Return the value of a group's first numeric item that has this concept name; None if there is none."""
    values = [float(item.MeasuredValueSequence[0].NumericValue) for item in _named(group, name)]
    return values[0] if values else None


def has_concept(item: Dataset, name: Code, value: Code) -> bool:
    """Whether a content item contains, at any depth, a code item with this concept name and this value."""
    return any(
        (_has_name(child, name) and _is_among(child.get("ConceptCodeSequence", []), value))
        or has_concept(child, name, value)
        for child in item.get("ContentSequence", [])
    )


def _named(group: Dataset, name: Code) -> list[Dataset]:
    return [item for item in group.get("ContentSequence", []) if _has_name(item, name)]


def _has_name(item: Dataset, name: Code) -> bool:
    return _is_among(item.get("ConceptNameCodeSequence", []), name)


def _is_among(found: Iterable[Dataset], code: Code) -> bool:
    return any((item.CodeValue, item.CodingSchemeDesignator) == code[:2] for item in found)
