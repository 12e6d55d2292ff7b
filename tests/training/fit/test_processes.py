import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.training.synthetic import RECIPE, tiny_network, train_discs
from training.fit.processes import join
from training.fit.schedules import Optimiser
from training.prepare.augment import NONE
from worker.networks.network import SegmentationNetwork

CHILD = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests.training.synthetic import discs, train_discs
from tests.training.fit.test_processes import SHARED, differences, network_without_statistics
from training.fit.processes import join

out = Path(sys.argv[1])
with join() as processes:
    if processes.rank == 0:
        discs(out / "run" / "prepared")
    processes.wait()
    network = network_without_statistics()
    training = train_discs(out / "run", SHARED, processes=processes, network=network, loss=differences)
    weights = {name: value.contiguous() for name, value in training.network.state_dict().items()}
    save_file(weights, out / f"{processes.rank}.safetensors")
threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in name for name in threads), f"left running: {threads}"
"""

SHARED = replace(RECIPE, augmentation=NONE, optimiser=Optimiser("sgd", 0.5))
"""A recipe without augmentation, because each process would draw other random numbers for it."""


def differences(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return a loss that is not a mean over examples, so it cannot be computed from shares of the batch."""
    return 100 * logits[:, 1].mean(dim=(1, 2, 3)).var()


def network_without_statistics() -> SegmentationNetwork:
    return tiny_network(batch_norm=False, dropout=0.0)


def flat(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for _, value in sorted(weights.items())])


def test_one_process_is_alone() -> None:
    with join() as processes:
        assert (processes.rank, processes.count) == (0, 1)
        assert processes.from_leader(0.25) == 0.25


def test_two_processes_of_torchrun_end_with_the_weights_of_one(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    subprocess.run([*torchrun, script, tmp_path], check=True, cwd=root, env=environment)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    alone = train_discs(tmp_path / "alone", SHARED, network=network_without_statistics(), loss=differences).network
    one, two, start = (
        flat(weights) for weights in (alone.state_dict(), first, network_without_statistics().state_dict())
    )
    assert (one - two).norm() < 0.15 * (one - start).norm()  # some of the difference is rounding to bfloat16
    assert (tmp_path / "run" / "last.safetensors").exists()
