"""Whether a CT was taken with a contrast agent, according to the wording of its header."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from dicom_node.headers import as_list, number

_HINTS = ("ContrastBolusRoute", "ContrastBolusStartTime", "ContrastBolusIngredient")
CONTRAST_TAGS = ("ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusVolume", *_HINTS)
"""The attributes that `has_contrast_agent` reads, beside the functional groups of a multi-frame CT."""

_DENIALS = frozenset(
    "0 N NA NO NON NONE NONCONTRAST NIL NOT WO WITHOUT PLAIN UNENHANCED "
    "NATIV NATIVE OHNE KEIN SANS SIN SEM SENZA GEEN ZONDER".split()
)
"""Words that scanners and technicians write if no agent was given, instead of leaving the attribute out."""

_ROUTES, _ANYWHERE, _DONE = {"INTRAVENOUS", "IV", "ORAL"}, {"CT", "OR", "SCAN"}, {"ADMINISTERED", "GIVEN", "USED"}
_FILLERS = (
    _ROUTES
    | _ANYWHERE
    | _DONE
    | set("AGENT CM CONTRAST CONTRASTE CONTRASTO INJECTION KM KONTRAST KONTRASTMITTEL MDC MEDIUM ML".split())
)
"""Words that may accompany a denial. Any other, such as ENHANCED or an agent's name, says that an agent was given."""

_ONE_WORD = ((r"\bN/A\b", "NA"), (r"\bW/O\b", "WO"), (r"\bI\.V\b", "IV"), (r"\b(NON|UN|NOT?)[ -]+(?=ENHANCED)", "UN"))
_SIGNS = re.compile(r"[+&/]|\s-\s|\bAND\b|\bUND\b")


def has_contrast_agent(ds: Dataset, frame: int = 0) -> bool:
    """Whether the header says that an agent was given for a frame, counted from 0.

    It names the agent in a text that does not deny it, or as a code, unless the frame was taken before it was given. If
    there is neither, because de-identification may blank the text, route, volume, start time or ingredient tell.
    """
    texts = as_list(ds.get("ContrastBolusAgent"))
    if any(_names_agent(str(text)) for text in texts):
        return True
    if ds.get("ContrastBolusAgentSequence"):
        return _is_used(ds, frame)
    hints = [hint for keyword in _HINTS for hint in as_list(ds.get(keyword))]
    volume_ml = number(ds.get("ContrastBolusVolume")) or 0.0
    return not texts and (volume_ml > 0 or any(_names_agent(str(hint)) for hint in hints))


def _is_used(ds: Dataset, frame: int) -> bool:
    """Whether a frame was taken after an agent was given, or shows one (PS3.3 C.7.6.16.2.12); in doubt, it was."""
    of_frames, shared = (ds.get(f"{of}FunctionalGroupsSequence") or [] for of in ("PerFrame", "Shared"))
    groups = [*of_frames[frame : frame + 1], *shared]
    usages = [usage for group in groups for usage in group.get("ContrastBolusUsageSequence") or []]
    return not usages or any(
        usage.get("ContrastBolusAgentAdministered") != "NO" or usage.get("ContrastBolusAgentDetected") == "YES"
        for usage in usages
    )


def _names_agent(text: str) -> bool:
    """Whether one of a text's statements names an agent.

    AND, UND and signs such as + separate statements; a denial applies to its own statement only.
    """
    text = text.upper()
    for pattern, word in _ONE_WORD:
        text = re.sub(pattern, word, text)
    return any(_states_agent(statement) for statement in _SIGNS.split(text))


def _states_agent(statement: str) -> bool:
    """Whether a statement names an agent; in doubt, one was given.

    A denial applies to the words after it in its clause, or to the whole clause if those words name nothing that could
    have been given. It also applies to following clauses, after a comma or semicolon, that only name routes, unless the
    denying clause names a route itself: NO CONTRAST, IV OR ORAL means that none was given.
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
