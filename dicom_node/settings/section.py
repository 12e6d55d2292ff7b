"""What every section of the settings is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f]+$")
]
"""PS3.5 table 6.2-1: at most 16 characters, no backslash, no control characters."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that are this machine, whatever a name server says."""


class Section(BaseModel):
    """A section of the settings; an unknown key in it is an error.

    The docstring below a setting describes it to users.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
