"""Everything that can go wrong, as one tree.

::

    HilumError
    ├── RejectedInput      never retried; the reason goes into the record and the report
    │   ├── NotAnalysable      a chest CT that cannot be measured: answered with a report that says why
    │   └── NotForHilum        not a CT, or not of the chest: answered in the record only
    ├── PassingFailure     retried, with a bound
    │   └── HungUp             a peer that was reached ended the connection or fell silent
    └── Defect             a mistake of Hilum's own, or of its set-up
        └── SettingsError

Every error carries a stable ``code`` for the record and a message for a person: what was expected, what
came, and what to do; never patient data or the name of a stored file.
"""

from __future__ import annotations


class HilumError(Exception):
    """Root of the tree."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[HilumError], tuple[str, str]]:
        """Keep both arguments when the error crosses a process."""
        return type(self), (self.code, self.message)


class RejectedInput(HilumError):
    """The input cannot be answered with a measurement, and trying again will not help."""


class NotAnalysable(RejectedInput):
    """A chest CT that cannot be measured, such as one with a missing slice."""


class NotForHilum(RejectedInput):
    """Not a CT, or not of the chest."""


class PassingFailure(HilumError):
    """Something outside failed and may work later: a PACS unreachable, memory or disk exhausted."""


class HungUp(PassingFailure):
    """A peer that was reached ended the connection amid an exchange, or fell silent."""


class Defect(HilumError):
    """A mistake of Hilum's own, or of its set-up."""


class SettingsError(Defect):
    """A setting that is unknown, malformed or contradicts another."""
