"""Show progress while images are prepared and a network is trained and tested."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0


def counted(items: Iterable[Item], console: Console, title: str) -> Iterator[Item]:
    """Yield items and show how many are done: on a terminal after each, elsewhere in a line every ten seconds."""
    told = time.monotonic()
    of = f" of {len(items)}" if isinstance(items, Sized) else ""
    with console.status(title) as status:
        for count, item in enumerate(items, start=1):
            yield item
            status.update(f"{title}: {count}{of}")
            if not console.is_terminal and time.monotonic() - told >= SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                console.print(f"{title}: {count}{of}", highlight=False, soft_wrap=True)


class Reporter:
    """Shows a bar with the time left, on a terminal only, and prints a line per epoch."""

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.title = title
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def start(self, done: int, total: int) -> None:
        """Start at a step, of ``total`` steps."""
        self.first, self.done, self.total = done, done, total
        self.began = time.monotonic()
        self.task = self.bar.add_task(self.title, total=total, completed=done)
        self.bar.start()

    def step(self, done: int) -> None:
        """Show how many steps are done."""
        self.done = done
        self.bar.update(self.task, completed=done)

    def epoch(self, phase: int, epoch: int, loss: float, dice: float, rate: float) -> None:
        """Print an epoch's figures and the time left."""
        took = time.monotonic() - self.began
        seconds_left = took / max(1, self.done - self.first) * (self.total - self.done)
        self.console.print(
            f"{self.title}: phase {phase + 1}, epoch {epoch}: loss {loss:.4f}, validation Dice {dice:.4f}, "
            f"learning rate {rate:.2e}, {timedelta(seconds=round(seconds_left))} left",
            soft_wrap=True,
            highlight=False,
        )

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()
