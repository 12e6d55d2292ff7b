from __future__ import annotations

import pytest

from tests.conformance.document import DOCUMENT, PLACE, TABLES, with_tables

TEXT = DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_conformance_statement_says_what_the_code_does() -> None:
    assert with_tables(TEXT) == TEXT, "docs/conformance.md is out of date: run `python -m tests.conformance`"


def test_every_table_stands_in_the_conformance_statement_once() -> None:
    assert sorted(PLACE.findall(TEXT)) == sorted(TABLES)
