from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from tests.worker.test_chest_network import CARD
from training.files import write_json
from training.ship import ship
from worker.models.store import verify
from worker.networks.checkpoint import save
from worker.networks.registry import build


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped-chest" / "split-0"
    folder.mkdir(parents=True)
    save(folder / "weights.safetensors", build(CARD.network, CARD.arguments), CARD)
    return tmp_path


def test_weights_are_shipped_with_the_figures_of_their_judgement(runs: Path) -> None:
    (runs / "chest-folds-judged").mkdir()
    measures = {
        "lung/dice_per_case": {"mean": 0.98},
        "undefined": {"mean": float("nan")},
    }
    write_json(runs / "chest-folds-judged" / "result.json", {"measures": measures})
    card = ship(runs, runs / "chest.safetensors")
    assert card.metrics == {"lung/dice_per_case": 0.98}
    assert card.threshold == CARD.threshold
    assert verify(runs / "chest.safetensors").fault == ""


def test_weights_that_were_not_judged_are_not_shipped(runs: Path) -> None:
    with pytest.raises(SettingsError, match="chest-folds-judged"):
        ship(runs, runs / "chest.safetensors")
