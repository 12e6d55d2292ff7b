import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from dicom_node.errors import Defect, SettingsError
from tests.training.synthetic import RECIPE, QuietReporter, train_discs
from training.fit.processes import Processes
from training.prepare.augment import NONE, Augmentation
from training.reporter import Reporter

CHILD = """
import json, sys
from dataclasses import replace
from pathlib import Path
from tests.training.synthetic import RECIPE, QuietReporter, train_discs

def halt():
    print("halted", flush=True)
    sys.stdin.readline()

recipe = replace(RECIPE, **json.loads(sys.argv[3]))
train_discs(Path(sys.argv[1]), recipe, reporter=QuietReporter(int(sys.argv[2]), halt))
"""


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key


@pytest.mark.fault
@pytest.mark.parametrize(
    ("changes", "step", "saved"),
    [
        ({}, 4, (0, 3)),
        ({"phases": (2,)}, 6, (1, 1)),
        ({"epochs": 20, "stop_after": 2}, 4, (0, 3)),
    ],
    ids=["one phase", "second phase", "early stop"],
)
def test_a_training_killed_in_mid_epoch_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, changes: dict[str, Any], step: int, saved: tuple[int, int]
) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), str(step), json.dumps(changes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "halted\n"
        child.kill()
        assert child.wait() == -9
    state = torch.load(tmp_path / "killed" / "state.pt", weights_only=True)["progress"]
    assert (state["phase"], state["step"]) == saved  # an epoch has two steps
    assert not state["finished"]

    recipe = replace(RECIPE, **changes)
    taken_up = train_discs(tmp_path / "killed", recipe)
    unbroken = train_discs(tmp_path / "unbroken", recipe)

    assert_same(weights(tmp_path / "killed"), weights(tmp_path / "unbroken"))
    assert_same(weights(tmp_path / "killed", "best"), weights(tmp_path / "unbroken", "best"))
    assert taken_up.progress.history == unbroken.progress.history


def test_the_loss_falls(tmp_path: Path) -> None:
    progress = train_discs(tmp_path, replace(RECIPE, epochs=40)).progress
    assert progress.history[-1]["loss"] < 0.6 * progress.history[0]["loss"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_the_loss_falls_on_a_gpu(tmp_path: Path) -> None:
    gpu = Processes(0, 1, torch.device("cuda", 0))
    progress = train_discs(tmp_path, replace(RECIPE, epochs=40), processes=gpu).progress
    assert progress.history[-1]["loss"] < 0.6 * progress.history[0]["loss"]


def test_every_epoch_says_how_it_went_and_how_long_it_will_take(tmp_path: Path) -> None:
    told = io.StringIO()
    train_discs(tmp_path, reporter=Reporter(Console(file=told), "discs"))
    lines = told.getvalue().splitlines()
    assert len(lines) == RECIPE.epochs
    assert re.fullmatch(
        r"discs: phase 1, epoch 1: loss \d\.\d+, validation Dice \d\.\d+, learning rate \S+, 0:\d\d:\d\d left", lines[0]
    )
    assert lines[-1].endswith("0:00:00 left")


def test_curves_are_drawn_for_tensorboard(tmp_path: Path) -> None:
    train_discs(tmp_path)
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("loss", "validation Dice", "learning rate"):
        assert len(curves.Scalars(name)) == RECIPE.epochs


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    assert_same(weights_after(tmp_path / "a"), weights_after(tmp_path / "b"))


def weights_after(folder: Path) -> dict[str, torch.Tensor]:
    train_discs(folder)
    return weights(folder)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    train_discs(tmp_path)
    written = (tmp_path / "last.safetensors").stat().st_mtime_ns
    again = train_discs(tmp_path)
    assert (tmp_path / "last.safetensors").stat().st_mtime_ns == written
    assert again.progress.finished


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    stuck = replace(RECIPE, epochs=50, stop_after=2, optimiser=replace(RECIPE.optimiser, rate=0.0))
    progress = train_discs(tmp_path, stuck).progress
    assert len(progress.history) == 3


def test_without_anything_to_validate_on_the_latest_weights_are_kept(tmp_path: Path) -> None:
    stopping = replace(RECIPE, epochs=4, stop_after=2, keep="best")
    training = train_discs(tmp_path, stopping, validate=lambda network: float("nan"))
    assert len(training.progress.history) == 4
    assert_same(weights(tmp_path, "best"), weights(tmp_path, "last"))


def test_a_second_phase_starts_from_the_best_weights_of_the_first(tmp_path: Path) -> None:
    scores = iter((0.2, 0.8, 0.4))
    with pytest.raises(KeyboardInterrupt):
        train_discs(
            tmp_path, replace(RECIPE, phases=(3,)), QuietReporter(at_step=6), validate=lambda network: next(scores)
        )
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["progress"]["phase"], state["progress"]["step"]) == (1, 0)
    assert state["optimiser"]["state"] == {}
    assert_same(state["network"], weights(tmp_path, "best"))


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(Defect, match="lower the learning rate"):
        train_discs(tmp_path, replace(RECIPE, epochs=20, optimiser=replace(RECIPE.optimiser, rate=1e30)))


def test_population_statistics_are_those_of_all_training_examples(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, augmentation=NONE, population_statistics=True)
    training = train_discs(tmp_path, recipe)
    network = training.load_weights("last")
    first = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    convolution = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    # There are nine examples in batches of four: the last one, alone in its batch, must count as much as the others.
    with torch.no_grad():
        seen = convolution(torch.stack([torch.from_numpy(e.image()).float() for e in training.examples]))
    assert first.running_mean is not None
    assert first.running_var is not None
    assert torch.allclose(first.running_mean, seen.mean(dim=(0, 2, 3)), atol=2e-3)
    assert torch.allclose(first.running_var, seen.var(dim=(0, 2, 3), correction=0), rtol=2e-2)


def test_the_best_epoch_keeps_the_statistics_with_which_it_was_validated(tmp_path: Path) -> None:
    training = train_discs(tmp_path, replace(RECIPE, epochs=1, augmentation=NONE, population_statistics=True))
    written = load_file(tmp_path / "best.safetensors")
    network = training.load_weights("best")
    assert all(torch.equal(tensor, written[name]) for name, tensor in network.state_dict().items())


def test_a_gradient_that_is_not_finite_ends_the_training_before_it_spoils_the_weights(tmp_path: Path) -> None:
    def root(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (logits - logits.detach()).abs().sum().sqrt()  # 0, with a gradient that is not finite

    with pytest.raises(Defect, match="gradient is not finite at step 0"):
        train_discs(tmp_path, loss=root)


def test_a_batch_that_processes_cannot_share_evenly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a batch of 4 cannot be shared evenly by 3 processes"):
        train_discs(tmp_path, processes=Processes(0, 3, torch.device("cpu")))


def test_processes_with_one_image_each_cannot_paste_from_another(tmp_path: Path) -> None:
    pasting = replace(RECIPE, augmentation=Augmentation(paste=(1, 0)))
    with pytest.raises(SettingsError, match="4 processes share a batch of 4, so that each has a single image"):
        train_discs(tmp_path, pasting, processes=Processes(0, 4, torch.device("cpu")))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_state_that_was_cut_short_is_named(tmp_path: Path, share: float) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_discs(tmp_path, reporter=QuietReporter(at_step=2))
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        SettingsError, match=rf"state\.pt: cannot be read whole .*; if it is damaged, remove {tmp_path}, and"
    ):
        train_discs(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_weights_that_were_cut_short_are_named(tmp_path: Path, share: float) -> None:
    training = train_discs(tmp_path)
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SettingsError, match=r"last\.safetensors: cannot be read whole"):
        training.load_weights("last")
