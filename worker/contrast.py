"""Whether a CT was taken with a contrast agent, as its header words it."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from dicom_node.headers import as_list

_DENIALS = frozenset(
    "0 N N/A NA NO NON NONE NONCONTRAST NIL NOT WO W/O WITHOUT PLAIN UNENHANCED "
    "NATIV NATIVE OHNE KEIN SANS SIN SEM SENZA GEEN ZONDER".split()
)
"""What scanners and technicians write where nothing was given, in place of leaving the attribute out."""

_FILLERS = frozenset(
    "ADMINISTERED AGENT AND CM CONTRAST CONTRASTE CONTRASTO CT ENHANCED GIVEN I INJECTION INTRAVENOUS IV KM KONTRAST "
    "KONTRASTMITTEL MDC MEDIUM ML OR ORAL SCAN USED V".split()
)
"""Words that may stand beside a denial. Any other, such as the name of an agent, says that one was given."""


def has_contrast_agent(ds: Dataset) -> bool:
    """Whether an agent is named, in words that do not deny it or as a code."""
    texts = map(str, as_list(ds.get("ContrastBolusAgent")))
    return any(_names_agent(text) for text in texts) or bool(ds.get("ContrastBolusAgentSequence"))


def _names_agent(text: str) -> bool:
    """Whether one of a text's clauses names an agent: what was not given orally may have been given into a vein."""
    clauses = (set(re.findall(r"[^\W_]+(?:/[^\W_]+)*", clause)) for clause in re.split("[,;]", text.upper()))
    return any(words and not (words & _DENIALS and words <= _DENIALS | _FILLERS) for words in clauses)
