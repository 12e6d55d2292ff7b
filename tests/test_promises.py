"""The table of the promises in the operator's guide names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TABLE = REPOSITORY / "docs" / "promises.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of each row of the tables: promise, test, and what Hilum did when it was broken for the test."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in ("promise", "---")]


def test_every_promise_names_a_test_and_what_was_broken() -> None:
    assert rows()
    assert [row for row in rows() if len(row) != 3 or not TEST.fullmatch(row[1]) or not (row[0] and row[2])] == []


def test_every_test_that_holds_a_promise_exists() -> None:
    gone = []
    for path, name in TEST.findall(TABLE.read_text(encoding="utf-8")):
        file = REPOSITORY / path
        if not file.is_file() or f"def {name}(" not in file.read_text(encoding="utf-8"):
            gone.append(f"{path}::{name}")
    assert gone == []
