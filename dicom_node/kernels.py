"""Which reconstruction kernels are sharp, by the names that scanners give them."""

from __future__ import annotations

import re

_SHARP = re.compile(r"\b(?!FC)[A-Z]{1,2}[5-9]\d|LUNG|BONE|EDGE|DETAIL|SHARP|\bY[A-E]?\b|\b[DEL]\b|\bFC[58]\d")
"""In this order: Siemens' numbers from 50, GE's names, names that say so (United Imaging's B_SHARP_C), Philips'
letters, Canon's FC50 to FC59 and FC80 to FC89.

Siemens recommends B30 and B40 for the body and calls B50 and above sharper; B50f by itself raises the measured
emphysema from 5 to 15 % of the lung (Lee et al., Korean J Radiol 2019;20:295). GE's DETAIL is sharper than STANDARD.
If a chest was reconstructed with Philips' C and D, C is the smooth one (Krishnan et al., Med Phys 2024); Philips' Y
family is sharp from YA. Canon's FC60s are for the brain; nothing is known here about its FC70s and FC90s.
"""


def is_sharp(kernel: str) -> bool:
    """Whether a kernel, in whatever case, sharpens edges, adds noise and so shifts densities."""
    return _SHARP.search(kernel.upper()) is not None
