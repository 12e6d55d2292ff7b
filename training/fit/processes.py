"""The processes that train one network together: one, or those that torchrun started."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

# Imported before the process group exists: its functions take the current group as a default and would keep it alive.
import torch.distributed.nn.functional
from torch import Tensor, distributed
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from dicom_node.errors import PassingFailure
from training.fit.device import choose_device

PATIENCE = timedelta(hours=12)
"""How long the other processes wait while the leader, of rank 0, validates, tests or prepares images alone."""

HEAD_START_SECONDS = 2.0
"""Time in which torchrun notices the process that failed, and ends the others. Among those that end in the same second,
it might take another one for the cause."""


@dataclass(frozen=True)
class Processes:
    """One process among its peers."""

    rank: int
    count: int
    device: torch.device

    def from_leader(self, value: float) -> float:
        """Return the value of the process of rank 0, so that all decide alike."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return float(shared)

    def gather(self, share: Tensor) -> Tensor:
        """Return the concatenated shares of all processes; the gradient flows into this process's share only."""
        if self.count == 1:
            return share
        shares = [torch.empty_like(share, memory_format=torch.contiguous_format) for _ in range(self.count)]
        distributed.all_gather(shares, share.detach().contiguous())
        shares[self.rank] = share
        return torch.cat(shares)

    def wait(self) -> None:
        """Wait until all processes have reached this point.

        Raises
        ------
        PassingFailure
            When one of them ended before it.
        """
        if self.count == 1:
            return
        try:
            distributed.barrier()
        except RuntimeError as error:
            time.sleep(HEAD_START_SECONDS)
            raise PassingFailure("process-ended", "another process ended; its message says why") from error


@contextmanager
def join() -> Iterator[Processes]:
    """Join the other processes that torchrun started, if any, and leave them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, choose_device())
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count, choose_device())
    except Exception as error:
        get_error_handler().record_exception(error)  # torchrun's last lines are about the first error recorded
        raise
    finally:
        # The group ends its threads only when nothing refers to it. DistributedDataParallel does, and is a reference
        # cycle, so collect it. A thread that outlived the interpreter could abort a finished training.
        gc.collect()
        distributed.destroy_process_group()
