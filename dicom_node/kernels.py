"""Which reconstruction kernels are sharp, by the names that scanners give them."""

from __future__ import annotations

import re

_SHARP = re.compile(r"\b(?!FC)[A-Z]{1,2}[5-9]\d|LUNG|BONE|EDGE|DETAIL|\bY[A-E]?\b|\b[DEL]\b|\bFC[58]\d")
"""Siemens' numbers from 50, names of GE, letters of Philips, Canon's FC50 to FC59 and FC80 to FC89, in this order.

Siemens recommends B30 and B40 for the body and calls B50 and above sharper; B50f alone raises the emphysema that is
measured from 5 to 15 % of the lung (Lee et al., Korean J Radiol 2019;20:295). GE's DETAIL is sharper than STANDARD.
Philips' C is the smooth one beside D where a chest has both (Krishnan et al., Med Phys 2024); its Y family is sharp
from YA. Canon's FC60s are for the brain, and of its FC70s and FC90s nothing is known here.
"""


def is_sharp(kernel: str) -> bool:
    """Whether a kernel, in whatever case, sharpens edges, adds noise and so shifts densities."""
    return _SHARP.search(kernel.upper()) is not None
