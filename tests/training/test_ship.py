from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from tests.worker.by_gray import CARD
from training.files import write_json
from training.ship import main, ship
from worker.models.store import verify
from worker.networks.checkpoint import save
from worker.networks.registry import build


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped-chest" / "split-0"
    folder.mkdir(parents=True)
    save(folder / "weights.safetensors", build(CARD.network, CARD.arguments), CARD)
    write_json(tmp_path / "shipped-chest" / "result.json", {"short": False})
    (tmp_path / "chest-folds").mkdir()
    for name in ("shipped-chest", "chest-folds"):
        write_json(tmp_path / name / "trial.json", {"experiment": name, "recipe": "a"})
    return tmp_path


def judge(runs: Path, result: dict[str, object]) -> None:
    (runs / "chest-folds-judged").mkdir()
    write_json(runs / "chest-folds-judged" / "result.json", result)


def test_weights_are_shipped_with_the_figures_of_their_judgement(runs: Path) -> None:
    measures = {
        "lung/dice_per_case": {"mean": 0.98},
        "undefined": {"mean": float("nan")},
    }
    judge(runs, {"short": False, "measures": measures})
    card = ship(runs, runs / "chest.safetensors")
    assert card.metrics == {"lung/dice_per_case": 0.98}
    assert card.threshold == CARD.threshold
    assert verify(runs / "chest.safetensors").fault == ""


def test_weights_that_were_not_judged_are_not_shipped(runs: Path) -> None:
    with pytest.raises(SettingsError, match="chest-folds-judged"):
        ship(runs, runs / "chest.safetensors")


def test_a_missing_training_is_named(runs: Path) -> None:
    (runs / "shipped-chest" / "result.json").unlink()
    judge(runs, {"short": False, "measures": {}})
    with pytest.raises(SettingsError, match="`hilum train shipped-chest` makes it"):
        ship(runs, runs / "chest.safetensors")


@pytest.mark.parametrize("short", ["shipped-chest", "chest-folds-judged"])
def test_what_was_trained_or_judged_in_short_is_not_shipped(runs: Path, short: str) -> None:
    judge(runs, {"short": False, "measures": {}})
    write_json(runs / short / "result.json", {"short": True, "measures": {}})
    with pytest.raises(SettingsError, match=f"{short} is short"):
        ship(runs, runs / "chest.safetensors")
    assert not (runs / "chest.safetensors").exists()


def test_weights_of_another_recipe_than_the_judged_folds_are_not_shipped(runs: Path) -> None:
    judge(runs, {"short": False, "measures": {}})
    write_json(runs / "chest-folds" / "trial.json", {"experiment": "chest-folds", "recipe": "b"})
    with pytest.raises(SettingsError, match=r"shipped-chest and .*chest-folds were trained by different recipes"):
        ship(runs, runs / "chest.safetensors")


def test_the_command_says_which_run_it_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ship", str(tmp_path)])
    assert main() == 1
    assert capsys.readouterr().err.endswith("`hilum train shipped-chest` makes it\n")
