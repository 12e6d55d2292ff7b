"""Collect the faults of a data set and report them together, so that users need not start again after each repair."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from training.datasets.sample import BadData


class Faults:
    """Code and message of each fault found so far."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Record BadData that is raised in the ``with`` block, and continue after the block."""
        try:
            yield
        except BadData as error:
            self.found.append((error.code, error.message))

    def refuse(self) -> None:
        """Raise BadData with the messages of all faults, if there are any."""
        if self.found:
            raise BadData(self.found[0][0], "\n".join(message for _, message in self.found))
