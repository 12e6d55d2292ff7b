"""One of two processes of torchrun, which train together; each writes the weights with which it ends."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.training.synthetic import RECIPE, QuietReporter, discs, tiny_network, train_discs
from training.fit.processes import join
from training.fit.schedules import Optimiser
from training.prepare.augment import NONE
from worker.networks.network import SegmentationNetwork

SHARED = replace(RECIPE, augmentation=NONE, optimiser=Optimiser("sgd", 0.5))
"""A recipe without augmentation, because each process would draw other random numbers for it."""


def differences(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return a loss that is not a mean over examples, so it cannot be computed from shares of the batch."""
    return 100 * logits[:, 1].mean(dim=(1, 2, 3)).var()


def network_without_statistics() -> SegmentationNetwork:
    return tiny_network(batch_norm=False, dropout=0.0)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(out: Path, last_step: int) -> None:
    """Train to a last step, if there is one, and write the weights to a file that is named by the process's rank."""
    with join() as processes:
        if processes.rank == 0:
            discs(out / "run" / "prepared")
        processes.wait()
        network = network_without_statistics()
        training = train_discs(
            out / "run",
            SHARED,
            reporter=QuietReporter(last_step, kill),
            processes=processes,
            network=network,
            loss=differences,
        )
        weights = {name: value.contiguous() for name, value in training.network.state_dict().items()}
        save_file(weights, out / f"{processes.rank}.safetensors")
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), f"left running: {threads}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
