from __future__ import annotations

import json

import pytest
from pydicom import Dataset

from tests.conformance.document import DOCUMENT, PLACE, TABLES, with_tables
from tests.conformance.studies import form_of
from tests.conformance.validation import DCIODVFY, FIGURES, PIXELMED_SR, errors

TEXT = DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_conformance_statement_says_what_the_code_does() -> None:
    assert with_tables(TEXT) == TEXT, "docs/conformance.md is out of date: run `python -m tests.conformance`"


def test_every_table_stands_in_the_conformance_statement_once() -> None:
    assert sorted(PLACE.findall(TEXT)) == sorted(TABLES)


def test_no_validator_found_a_fault_in_an_object_of_a_real_study() -> None:
    rows = json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]

    assert sum(row["objects"] for row in rows) > 0
    assert not [row for row in rows if row["errors"] or row["unexplained"]]


def test_only_a_tools_own_errors_are_passed_over() -> None:
    own = "Error: Template 1411 Volumetric/[Row 5] SCOORD: within 1.8.1: Missing conditional content item"
    said = ["Found Comprehensive3DSR IOD", own, "Error: Missing attribute", "Warning: something"]

    assert errors(PIXELMED_SR, said) == ["Error: Missing attribute"]
    assert errors(DCIODVFY, said) == [own, "Error: Missing attribute"]


def test_objects_differ_in_structure_by_what_there_is_and_by_codes_but_not_by_figures() -> None:
    def form(area_mm2: float, code: str = "Area", *others: str) -> object:
        figure, ds = Dataset(), Dataset()
        figure.FloatingPointValue, figure.CodeValue = area_mm2, code
        ds.ContentSequence = [figure, figure]
        for keyword in others:
            setattr(ds, keyword, "1.2.3")
        return form_of(ds)

    assert form(1.0) == form(2.0)
    assert form(1.0) != form(1.0, "Volume")
    assert form(1.0) != form(1.0, "Area", "FrameOfReferenceUID")
