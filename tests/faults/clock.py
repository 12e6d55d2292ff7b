"""A wall clock that can be set, for the processes of these tests, by a library that is preloaded into them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services import missing

SOURCE = Path(__file__).with_name("clock.c")
OFFSET_BYTES = 8


@dataclass
class Clock:
    """Sets CLOCK_REALTIME for all processes with this environment at once; CLOCK_MONOTONIC is not changed."""

    preloaded: Path
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.preloaded), "TEST_CLOCK": str(self.file)}

    def set_by(self, seconds: int) -> None:
        """Set the clock this many seconds ahead of the true time, or behind it if negative."""
        with self.file.open("r+b", buffering=0) as file:
            file.write(seconds.to_bytes(OFFSET_BYTES, sys.byteorder, signed=True))


@contextmanager
def settable_clock() -> Iterator[Clock]:
    """Build the library; skip the test without a C compiler, or a dynamic loader that can preload the library."""
    if not sys.platform.startswith("linux"):
        missing("a loader that takes LD_PRELOAD as Linux's does")
    compiler = shutil.which("cc") or missing("a C compiler")
    # Not in pytest's folders, which PostgreSQL's user cannot read.
    with tempfile.TemporaryDirectory(prefix="hilum-clock-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        clock = Clock(folder / "clock.so", folder / "set_by_seconds")
        clock.file.touch(0o644)
        clock.set_by(0)
        command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", clock.preloaded, SOURCE]
        subprocess.run(command, check=True)
        yield clock
