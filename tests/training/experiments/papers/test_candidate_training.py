from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.errors import SettingsError
from tests.training.synthetic import QuietReporter
from training.experiments.papers import candidate_training
from training.experiments.papers.candidate_training import save_classifier, score, train_classifier
from training.fit.state import Progress
from training.prepare.patches import SIZE, CandidatePatch, PatchMap
from worker.networks.checkpoint import load

SMALL = replace(candidate_training.RECIPE, epochs=2, steps_per_epoch=2, batch_size=8)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_training, "RECIPE", SMALL)
    torch.set_num_threads(1)


def candidates(count: int = 24, seed: int = 0) -> list[CandidatePatch]:
    """Return patches that are infection where they are bright."""
    random = np.random.default_rng(seed)
    return [
        CandidatePatch(
            slice_index=0,
            region=np.ones((1, 1), np.bool_),
            patch=(0.2 + 0.6 * (n % 3 == 0) + random.normal(0, 0.05, (SIZE, SIZE))).astype(np.float16),
            is_infection=n % 3 == 0,
        )
        for n in range(count)
    ]


def train(folder: Path, found_by: str = "network") -> tuple[PatchMap, Progress]:
    return train_classifier(candidates(), [found_by], folder, seed=0, title="test")


def test_networks_that_found_too_little_to_learn_from_are_told_to_train_longer(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="too few candidates: train them longer"):
        train_classifier([], [], tmp_path, seed=0, title="test")


def test_bright_candidates_are_told_from_dark_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_training, "RECIPE", replace(SMALL, epochs=20))
    network, progress = train(tmp_path)
    scores = score(network, candidates(seed=1))
    assert scores[::3].min() > max(scores[1::3].max(), scores[2::3].max())
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]


def interrupt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train to the second of two epochs, and stop before its end."""

    with monkeypatch.context() as patch:
        patch.setattr(candidate_training, "Reporter", lambda console, title: QuietReporter(at_step=4))
        patch.setattr(candidate_training, "SAVE_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(folder)


def test_an_interrupted_classifier_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path / "broken", monkeypatch)
    broken, unbroken = (train(tmp_path / name)[0].state_dict() for name in ("broken", "unbroken"))
    assert all(torch.equal(value, unbroken[name]) for name, value in broken.items())


def test_a_finished_classifier_is_not_trained_again(tmp_path: Path) -> None:
    first = train(tmp_path)[1]
    again = train(tmp_path)[1]
    assert again.seconds == first.seconds
    assert again.history == first.history
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_classifier_of_other_networks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path, monkeypatch)
    with pytest.raises(SettingsError, match="was begun with candidates of other networks, or by another recipe"):
        train(tmp_path, found_by="another")


def test_the_saved_weights_score_as_the_trained_ones(tmp_path: Path) -> None:
    network, progress = train(tmp_path)
    save_classifier(tmp_path / "weights.safetensors", network, progress.sources, short=True)
    trained = score(network, candidates())
    network.classifier, card = load(tmp_path / "weights.safetensors")
    assert np.array_equal(score(network, candidates()), trained)
    assert (card.network, card.short, card.image_size) == ("patch-classifier", True, (SIZE, SIZE))
    assert card.commit
