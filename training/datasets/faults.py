"""What is wrong with a data set, told all at once: whoever mends it should not have to begin again for each file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from training.datasets.sample import BadData


class Faults:
    """Code and message of each fault that was found so far."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is found to be wrong in a ``with``, and go on after it."""
        try:
            yield
        except BadData as error:
            self.found.append((error.code, error.message))

    def refuse(self) -> None:
        """Raise BadData that tells all that is wrong, if anything is."""
        if self.found:
            raise BadData(self.found[0][0], "\n".join(message for _, message in self.found))
