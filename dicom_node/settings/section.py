"""The base class of all sections of the settings, and types that they share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def of_the_default_repertoire(title: str) -> str:
    """Return an AE title if pynetdicom can associate with it; any other is an error, because it would end delivery."""
    if wrong := sorted({c for c in title if not " " <= c <= "~" or c == "\\"}):
        codes = ", ".join(f"U+{ord(c):04X}" for c in wrong)
        raise ValueError(f"expected ASCII without backslash and control characters, got {codes}")
    return title


AETitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16),
    AfterValidator(of_the_default_repertoire),
]
"""PS3.5 table 6.2-1: at most 16 characters of the default repertoire, no backslash; spaces around it do not count."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that are this machine, whatever a name server says."""


class Section(BaseModel):
    """A section of the settings; an unknown key in it is an error.

    The docstring below a setting describes it to users.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
