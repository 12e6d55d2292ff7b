"""One of two processes of torchrun, which carry out a trial together: train, test, and test again."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.training.trials import DISCS, read_discs
from training import datasets
from training.fit.processes import join
from training.trial import Trial

DICE = "infection/dice_global"


def main(out: Path) -> None:
    """Carry out one split, with augmentation and batch normalisation; write its Dice on the test part, twice."""
    datasets.READERS = {"discs": read_discs}  # type: ignore[misc]  # the only set that this process reads
    with join() as processes:
        trial = Trial(
            replace(DISCS, recipe=replace(DISCS.recipe, epochs=30)),
            out,
            out / "run",
            short=False,
            seed=0,
            processes=processes,
            console=Console(file=io.StringIO()),
            splits=[0],
        )
        for result in (trial.train(), trial.evaluate()):
            if processes.rank == 0:
                sys.stdout.write(f"{result['measures'][DICE]['mean']}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
