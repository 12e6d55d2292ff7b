from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.cli import main
from dicom_node.errors import SettingsError
from dicom_node.settings import WorkerSettings
from tests.worker.by_gray import CARD
from tests.worker.chests import dice
from worker.chest_network import WHOLE_LUNG, ChestNetwork
from worker.framing import body_box
from worker.method import choose_method
from worker.models.store import CHEST_WEIGHTS, find_models, verify
from worker.networks.checkpoint import load, save
from worker.networks.openvino_engine import OpenVinoEngine
from worker.networks.registry import build
from worker.networks.torch_engine import TorchEngine
from worker.phantom.chest import build_chest
from worker.pipeline import THRESHOLDS
from worker.slabs import Slabs
from worker.volume import read_volume

ROOT = Path(__file__).parents[3]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "own.safetensors"
    save(path, build(CARD.network, CARD.arguments), CARD)
    return path


def test_the_thresholds_need_no_weights() -> None:
    assert choose_method(WorkerSettings(method="thresholds")) is THRESHOLDS


def test_the_shipped_weights_are_whole_and_small() -> None:
    model = verify(CHEST_WEIGHTS)
    assert model.fault == ""
    assert CHEST_WEIGHTS.stat().st_size < 60e6


def test_the_shipped_network_finds_the_lungs_of_a_phantom() -> None:
    chest = build_chest(1, 10)
    rows, columns = body_box(chest.hu)
    network = ChestNetwork.open(CHEST_WEIGHTS)
    frame = network.frame(rows, columns)
    (found,) = network.read(chest.hu[4:5], Slabs(1), frame, WHOLE_LUNG)[:, 0]
    assert dice(frame.reaches(found, 0), chest.lungs[4, rows, columns] > 0) > 0.9


def test_a_sites_own_weights_are_measured_with_and_named_by_their_hash(weights: Path) -> None:
    method = choose_method(WorkerSettings(method="network", weights=weights))
    assert method.algorithm.weights_sha256 == verify(weights).card.weights_sha256  # type: ignore[union-attr]  # it has a card


def test_weights_that_are_not_there_are_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"worker\.weights") as caught:
        choose_method(WorkerSettings(method="network", weights=tmp_path / "none.safetensors"))
    assert caught.value.code == "no-weights"


def test_damaged_weights_are_an_error_of_the_settings(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(SettingsError) as caught:
        choose_method(WorkerSettings(method="network", weights=weights))
    assert caught.value.code == "wrong-weights-hash"


def test_weights_of_a_short_form_are_not_measured_with(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(weights, build(CARD.network, CARD.arguments), replace(CARD, short=True))
    with pytest.raises(SettingsError) as caught:
        choose_method(WorkerSettings(method="network", weights=weights))
    assert caught.value.code == "short-run"
    assert "of a short form" in verify(weights).fault
    assert main(["export", str(weights)]) == 1
    assert "train it in full length" in capsys.readouterr().err


def test_weights_that_a_worker_would_refuse_have_that_fault(weights: Path) -> None:
    save(weights, build(CARD.network, CARD.arguments), replace(CARD, image_size=(256, 128)))
    with pytest.raises(SettingsError) as caught:
        choose_method(WorkerSettings(method="network", weights=weights))
    assert caught.value.code == "no-chest-network"
    assert "a square image" in verify(weights).fault


def test_weights_that_this_machine_could_not_run_have_that_fault(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)  # as without torch
    with pytest.raises(SettingsError) as caught:
        choose_method(WorkerSettings(method="network", weights=weights))
    assert caught.value.code == "not-exported"
    assert "hilum export" in verify(weights).fault
    assert verify(CHEST_WEIGHTS).fault == ""


@pytest.mark.parametrize(("method", "told"), [("network", "own.safetensors"), ("thresholds", "HU thresholds")])
def test_the_list_ends_with_what_is_measured_with(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str, told: str
) -> None:
    monkeypatch.setenv("HILUM_WORKER__WEIGHTS", str(weights))
    monkeypatch.setenv("HILUM_WORKER__METHOD", method)
    assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(told)


def test_weights_are_verified_against_their_card(weights: Path) -> None:
    assert verify(weights).fault == ""
    weights.write_bytes(weights.read_bytes() + b"x")
    assert "SHA-256" in verify(weights).fault


def test_weights_without_a_card_are_listed_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").write_bytes(b"x")
    model = verify(tmp_path / "own.safetensors")
    assert model.card is None
    assert "own.json" in model.fault


def test_a_sites_own_weights_are_listed_after_the_shipped_ones(weights: Path) -> None:
    models = list(find_models(WorkerSettings(weights=weights)))
    assert models[-1].path == weights
    assert [model.fault for model in models] == [""] * len(models)


def test_models_are_listed_as_json_and_damage_ends_in_1(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HILUM_WORKER__WEIGHTS", str(weights))
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["card"]["licence"] == CARD.licence
    weights.write_bytes(b"x")
    assert main(["models"]) == 1
    assert "own: the weights' SHA-256" in capsys.readouterr().out


def test_what_was_exported_is_verified_too(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(weights)]) == 0
    assert "own.xml" in capsys.readouterr().out
    assert verify(weights).fault == ""
    weights.with_suffix(".bin").write_bytes(b"x")
    assert "hilum export" in verify(weights).fault


def test_exporting_what_is_not_there_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "none.safetensors")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("hilum: WEIGHTS: ")
    assert "none.json: No such file" in told


def test_a_cpu_worker_reads_scans_without_torch() -> None:
    script = """
import sys

for missing in ("torch", "monai", "safetensors"):
    sys.modules[missing] = None
import importlib.util

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if sys.modules.get(name, True) is None else find_spec(name)
from dicom_node.settings import WorkerSettings
from worker.method import choose_method
from worker.phantom.chest import build_chest
from tests.worker.chests import volume_of

chest = build_chest(1, 10)
volume = volume_of(chest.hu)
method = choose_method(WorkerSettings(method="network"))
lungs = method.segment_lungs(volume)
method.segment_infection(volume, lungs)
assert ((lungs.labels > 0) == (chest.lungs > 0)).mean() > 0.95
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, cwd=ROOT)


@pytest.mark.data
def test_engines_agree_on_a_real_study(shared_data: Path) -> None:
    volume = read_volume(sorted((shared_data / "ct-studies" / "covid-p001").glob("*.dcm")))
    network, card = load(CHEST_WEIGHTS)
    one, other = (
        ChestNetwork(engine, card) for engine in (OpenVinoEngine.open(CHEST_WEIGHTS, card), TorchEngine(network))
    )
    lungs = one.segment_lungs(volume)
    assert dice(lungs.labels > 0, other.segment_lungs(volume).labels > 0) > 0.995
    masks = [chest.segment_infection(volume, lungs).mask.array for chest in (one, other)]
    assert dice(*masks) > 0.995
