"""Whether a CT was taken with a contrast agent, as its header words it."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from dicom_node.headers import as_list

_DENIALS = frozenset(
    "0 N NA NO NON NONE NONCONTRAST NIL NOT WO WITHOUT PLAIN UNENHANCED "
    "NATIV NATIVE OHNE KEIN SANS SIN SEM SENZA GEEN ZONDER".split()
)
"""What scanners and technicians write where nothing was given, in place of leaving the attribute out."""

_ROUTES, _ANYWHERE, _DONE = {"INTRAVENOUS", "IV", "ORAL"}, {"CT", "OR", "SCAN"}, {"ADMINISTERED", "GIVEN", "USED"}
_FILLERS = (
    _ROUTES
    | _ANYWHERE
    | _DONE
    | set("AGENT CM CONTRAST CONTRASTE CONTRASTO INJECTION KM KONTRAST KONTRASTMITTEL MDC MEDIUM ML".split())
)
"""Words that may stand beside a denial. Any other, such as ENHANCED or an agent's name, says that one was given."""

_ONE_WORD = ((r"\bN/A\b", "NA"), (r"\bW/O\b", "WO"), (r"\bI\.V\b", "IV"), (r"\b(NON|UN|NOT?)[ -]+(?=ENHANCED)", "UN"))
_SIGNS = re.compile(r"[+&/]|\s-\s|\bAND\b|\bUND\b")


def has_contrast_agent(ds: Dataset) -> bool:
    """Whether an agent is named, in words that do not deny it or as a code."""
    texts = map(str, as_list(ds.get("ContrastBolusAgent")))
    return any(_names_agent(text) for text in texts) or bool(ds.get("ContrastBolusAgentSequence"))


def _names_agent(text: str) -> bool:
    """Whether one of a text's statements names an agent: no denial reaches beyond an AND or a sign."""
    text = text.upper()
    for pattern, word in _ONE_WORD:
        text = re.sub(pattern, word, text)
    return any(_states_agent(statement) for statement in _SIGNS.split(text))


def _states_agent(statement: str) -> bool:
    """Whether a statement names an agent; what is in doubt was given.

    A denial denies what follows it, and all of its clause where nothing follows that could have been given. Over a
    comma it reaches what tells the route alone, unless it spoke of a route itself: NO CONTRAST, IV OR ORAL is none.
    """
    reaches_on = False
    for clause in re.split("[,;]", statement):
        words = re.findall(r"[^\W_]+", clause)
        at = next((i for i, word in enumerate(words) if word in _DENIALS), None)
        if not set(words) <= _DENIALS | _FILLERS:
            return True
        if at is None:
            if words and not (reaches_on and set(words) <= _ROUTES | _ANYWHERE):
                return True
        elif set(words[:at]) - _ANYWHERE and set(words[at:]) - _DENIALS - _DONE:
            return True
        else:
            reaches_on = not _ROUTES & set(words)
    return False
