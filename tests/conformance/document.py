"""docs/conformance.md, and the places in it where tables stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.conformance import network, objects, validation

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
PLACE = re.compile(r"<!-- table: (?P<name>[a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)

Row = Sequence[str]
TABLES: dict[str, Callable[[], Iterator[Row]]] = network.TABLES | objects.TABLES | validation.TABLES
"""The rows of each table, its head first."""


def with_tables(text: str) -> str:
    """Return the document with every table generated anew from the code."""
    return PLACE.sub(lambda place: f"<!-- table: {place['name']} -->\n{table(place['name'])}<!-- end -->", text)


def table(name: str) -> str:
    """Return one table in Markdown."""
    head, *rows = TABLES[name]()
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
