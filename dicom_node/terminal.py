"""Progress on a terminal: one line on standard error that is overwritten, and gone before anything else is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def progress_cleared() -> Iterator[None]:
    """Clear the progress from the terminal when the ``with`` block ends, also with an error."""
    try:
        yield
    finally:
        show_progress("")


def show_progress(text: str) -> None:
    """Print over the terminal's last line if standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
