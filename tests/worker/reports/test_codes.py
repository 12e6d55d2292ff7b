from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from worker.reports import codes

ALL_CODES = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}

ELSEWHERE = {
    "INFECTED_PERCENT": "Hilum's own",
    "MILLILITER": "UCUM: the liter with a prefix",
    "SOURCE": "SNOMED CT's preferred term of what PS3.16 calls Source (attribute)",
}
"""Codes that pydicom's copy of PS3.16 does not hold, and where they stand."""


@pytest.mark.parametrize("name", sorted(ALL_CODES.keys() - ELSEWHERE))
def test_code_has_the_meaning_the_standard_gives_it(name: str) -> None:
    code = ALL_CODES[name]
    scheme = getattr(dictionary, code.scheme_designator)

    meant = [found for name in scheme.dir() if (found := getattr(scheme, name)).value == code.value]

    assert code.meaning in {found.meaning for found in meant}


def test_own_codes_stand_in_a_private_scheme() -> None:
    assert codes.INFECTED_PERCENT.scheme_designator.startswith("99")
    assert codes.HILUM_SCHEME_IDENTIFICATION.CodingSchemeDesignator == codes.INFECTED_PERCENT.scheme_designator
