"""Errors of networks and their weights."""

from __future__ import annotations


class NetworkError(ValueError):
    """A network or its weights cannot be used; ``code`` is stable, ``message`` says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[NetworkError], tuple[str, str]]:
        """Keep both arguments when the error is pickled to another process."""
        return type(self), (self.code, self.message)
