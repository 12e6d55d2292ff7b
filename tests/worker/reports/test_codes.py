from __future__ import annotations

from itertools import pairwise

import pytest
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from worker.findings import HuBand
from worker.measure import BAND_EDGES_HU
from worker.reports import codes

ALL_CODES = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}

ELSEWHERE = {
    "INFECTED_PERCENT": "Hilum's own",
    "WHOLE_LUNG_SCORE": "Hilum's own",
    "SIX_ZONE_SCORE": "Hilum's own",
    "VOLUME_CHANGE": "Hilum's own",
    "VOLUME_CHANGE_PERCENT": "Hilum's own",
    "INFECTED_PERCENT_CHANGE": "Hilum's own",
    "TIME_SINCE_PRIOR": "Hilum's own",
    "SCORE": "UCUM: an annotation",
    "MILLILITER": "UCUM: the liter with a prefix",
}
"""Codes that pydicom's copy of PS3.16 does not contain, and where they are defined."""


@pytest.mark.parametrize("name", sorted(ALL_CODES.keys() - ELSEWHERE))
def test_code_has_the_meaning_the_standard_gives_it(name: str) -> None:
    code = ALL_CODES[name]
    scheme = getattr(dictionary, code.scheme_designator)

    meant = [found for name in scheme.dir() if (found := getattr(scheme, name)).value == code.value]

    assert code.meaning in {found.meaning for found in meant}


def test_every_exception_is_still_a_code() -> None:
    assert ELSEWHERE.keys() - ALL_CODES == set()


OWN = {name: value for name, value in ALL_CODES.items() if ELSEWHERE.get(name) == "Hilum's own"}


@pytest.mark.parametrize("code", OWN.values(), ids=OWN.keys())
def test_own_codes_stand_in_a_private_scheme_that_is_identified(code: Code) -> None:
    assert code.scheme_designator.startswith("99")
    assert codes.HILUM_SCHEME_IDENTIFICATION.CodingSchemeDesignator == code.scheme_designator


def test_each_band_of_hu_has_a_code_of_its_own() -> None:
    edges = (None, *BAND_EDGES_HU, None)
    bands = [codes.lung_in_band(HuBand(start, end, 0, 0)) for start, end in pairwise(edges)]

    assert len({code.value for code in bands}) == len(bands)
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in bands)  # limits of SH and LO
