import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from training.processes import join

CHILD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from tests.training.synthetic import discs, train_discs
from training.processes import join

out = Path(sys.argv[1])
with join() as processes:
    if processes.rank == 0:
        discs(out / "run" / "prepared")
    processes.wait()
    training = train_discs(out / "run", processes=processes)
    weights = {name: value.contiguous() for name, value in training.network.state_dict().items()}
    trainable = {name: weights[name] for name, _ in training.network.named_parameters()}
    save_file(trainable, out / f"{processes.rank}.safetensors")
threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in name for name in threads), f"left running: {threads}"
"""


def test_one_process_is_alone() -> None:
    with join() as processes:
        assert (processes.rank, processes.count) == (0, 1)
        assert processes.from_leader(0.25) == 0.25


def test_two_processes_of_torchrun_end_with_the_same_weights(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    subprocess.run([*torchrun, script, tmp_path], check=True, cwd=root, env=environment)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert (tmp_path / "run" / "last.safetensors").exists()
