import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.fit import one_of_two, trial_of_two
from tests.training.fit.one_of_two import SHARED, differences, network_without_statistics
from tests.training.synthetic import train_discs
from training.fit.processes import join


def flat(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for _, value in sorted(weights.items())])


def test_one_process_is_alone() -> None:
    with join() as processes:
        assert (processes.rank, processes.count) == (0, 1)
        assert processes.from_leader(0.25) == 0.25


NEVER = "-1"


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    return subprocess.run(command, check=False, cwd=root, env=environment, capture_output=True, text=True)


def test_two_processes_of_torchrun_end_with_the_weights_of_one(tmp_path: Path) -> None:
    ended = torchrun(one_of_two.__file__, tmp_path, NEVER)
    assert ended.returncode == 0, ended.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    alone = train_discs(tmp_path / "alone", SHARED, network=network_without_statistics(), loss=differences).network
    one, two, start = (
        flat(weights) for weights in (alone.state_dict(), first, network_without_statistics().state_dict())
    )
    assert (one - two).norm() < 0.15 * (one - start).norm()  # some of the difference is rounding to bfloat16
    assert (tmp_path / "run" / "last.safetensors").exists()


@pytest.mark.fault
def test_two_processes_that_were_killed_in_mid_epoch_end_with_the_weights_of_unbroken_ones(tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    (tmp_path / "unbroken").mkdir()
    assert "Signal 9 (SIGKILL)" in torchrun(one_of_two.__file__, tmp_path / "killed", "4").stderr
    state = torch.load(tmp_path / "killed" / "run" / "state.pt", weights_only=True)["progress"]
    assert state["step"] == 3  # an epoch has two
    for folder in ("killed", "unbroken"):
        ended = torchrun(one_of_two.__file__, tmp_path / folder, NEVER)
        assert ended.returncode == 0, ended.stderr
    killed, unbroken = (load_file(tmp_path / folder / "0.safetensors") for folder in ("killed", "unbroken"))
    assert all(torch.equal(value, unbroken[name]) for name, value in killed.items())


def test_two_processes_carry_out_a_trial(tmp_path: Path) -> None:
    ended = torchrun(trial_of_two.__file__, tmp_path)
    assert ended.returncode == 0, ended.stderr
    trained, tested_again = ended.stdout.split()
    assert trained == tested_again
    assert float(trained) > 0.5
    assert (tmp_path / "run" / "split-0" / "weights.safetensors").exists()


def test_the_last_that_torchrun_says_is_why_a_process_failed(tmp_path: Path) -> None:
    train = ("-m", "dicom_node", "train", "wu-infection-unet", "--data", tmp_path, "--out", tmp_path / "run")
    said = torchrun(*train).stderr
    *_, last = said.rpartition("Root Cause")
    assert "no data set infection-slices in" in last
    assert "[rank1]: Traceback" not in said
