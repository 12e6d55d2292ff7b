"""Write the tables of docs/conformance.md anew."""

from __future__ import annotations

from tests.conformance.document import DOCUMENT, with_tables

DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
