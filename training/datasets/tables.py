"""Read the tables (CSV) of data sets; what is wrong in one is an error that names it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Set
from pathlib import Path

from training.datasets.sample import BadData


def read_rows(path: Path, columns: Set[str]) -> list[dict[str, str]]:
    """Return the rows of a table with a header, in UTF-8.

    Raises
    ------
    BadData
        When the file is missing or no such table, or has no rows or not all of the columns.
    """
    if not path.exists():
        raise BadData("missing-file", f"{path}: missing")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadData("malformed-file", f"{path}: expected a table in UTF-8 ({error})") from error
    if not rows or not columns <= set(rows[0]):
        raise BadData("malformed-file", f"{path}: expected rows with the columns {', '.join(sorted(columns))}")
    return rows


def read_number(path: Path, row: Mapping[str, str], column: str) -> float:
    """Return the number in a row's column.

    Raises
    ------
    BadData
        When there is none.
    """
    try:
        return float(row[column])
    except ValueError:
        raise BadData("malformed-file", f"{path}: expected a number as {column}, got {row[column]!r}") from None
