from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from worker.contrast import has_contrast_agent


def header(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    "words",
    [
        "NONE",
        "none",
        "NO",
        "N",
        "N/A",
        "W/O",
        "WITHOUT",
        "NO CONTRAST",
        "Non-Contrast",
        "OHNE",
        "OHNE KM",
        "CONTRAST NOT ADMINISTERED",
        "NO INTRAVENOUS CONTRAST",
        "NO I.V. CONTRAST",
        "NO IV OR ORAL CONTRAST",
        "NO IV, NO ORAL",
        "NONE (IV); NONE (ORAL)",
        "NO, IV",
        "NO CONTRAST, IV OR ORAL",
        "NO CONTRAST, CT SCAN",
        "CT WITHOUT CONTRAST",
        "NONE ADMINISTERED",
        "IV CONTRAST NOT GIVEN",
        "IV CONTRAST: NONE",
        "UNENHANCED",
        "NON-ENHANCED",
        "NOT ENHANCED",
        "PLAIN",
        "PLAIN CT",
        "SANS INJECTION",
        "SEM CONTRASTE",
        "SENZA MDC",
        "GEEN CONTRAST",
        "ZONDER CONTRAST",
        "0",
        "-",
        "",
    ],
)
def test_an_agent_that_is_denied_was_not_given(words: str) -> None:
    assert not has_contrast_agent(header(ContrastBolusAgent=words))


@pytest.mark.parametrize(
    "words",
    [
        "Ultravist",
        "NON-IONIC CONTRAST",
        "NO ORAL, 80 ML OMNIPAQUE",
        "NO ORAL, IV CONTRAST GIVEN",
        "NO ORAL CONTRAST, IV CONTRAST GIVEN",
        "NO ORAL, IV",
        "NO IV, ORAL",
        "IV AND ORAL CONTRAST",
        "IV CONTRAST NO ORAL",
        "I.V. CONTRAST NO ORAL",
        "IV WITHOUT ORAL",
        "IV NOT ORAL",
        "IV CONTRAST GIVEN - NO ORAL CONTRAST",
        "PLAIN+ENHANCED",
        "PLAIN AND ENHANCED",
        "PLAIN + ENHANCED CT SCAN",
        "PLAIN ENHANCED",
        "UNENHANCED/ENHANCED",
        "NATIVE AND IV CONTRAST",
        "NATIVE, IV CONTRAST",
        "NATIV + KM",
        "CT WITHOUT AND WITH CONTRAST",
        "W/O & W/ CONTRAST",
        "ENHANCED",
        "APPLIED",
        "Y",
        "KM",
    ],
)
def test_an_agent_that_is_named_was_given(words: str) -> None:
    assert has_contrast_agent(header(ContrastBolusAgent=words))


def test_an_agent_given_as_a_code_was_given() -> None:
    assert has_contrast_agent(header(ContrastBolusAgentSequence=[header(CodeMeaning="Iopamidol")]))


@pytest.mark.parametrize(
    "attributes",
    [
        {"ContrastBolusRoute": "IV"},
        {"ContrastBolusVolume": "80"},
        {"ContrastBolusStartTime": "101000"},
        {"ContrastBolusIngredient": "IODINE"},
    ],
)
def test_an_agent_that_is_blanked_was_given_if_it_is_told_how(attributes: dict[str, str]) -> None:
    assert has_contrast_agent(header(ContrastBolusAgent="", **attributes))
    assert not has_contrast_agent(header(ContrastBolusAgent="NONE", **attributes))


def test_a_blanked_agent_with_nothing_told_was_not_given() -> None:
    told = {"ContrastBolusRoute": "NONE", "ContrastBolusVolume": "0", "ContrastBolusStartTime": ""}
    assert not has_contrast_agent(header(ContrastBolusAgent="", **told))


@pytest.mark.parametrize(
    ("administered", "detected", "is_given"),
    [("NO", "NO", False), ("NO", None, False), ("NO", "YES", True), ("YES", "NO", True), (None, None, True)],
)
@pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_an_agent_given_after_a_frame_was_not_given_for_it(
    groups: str, administered: str | None, detected: str | None, is_given: bool
) -> None:
    usage = header(ContrastBolusAgentAdministered=administered, ContrastBolusAgentDetected=detected)
    group = header(ContrastBolusUsageSequence=[usage])
    ds = header(ContrastBolusAgentSequence=[header(CodeMeaning="Iopamidol")], **{groups: [group]})
    assert has_contrast_agent(ds, 0) == is_given


def test_a_header_without_an_agent_tells_of_none() -> None:
    assert not has_contrast_agent(header())
