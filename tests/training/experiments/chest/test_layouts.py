from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from tests.training.experiments.chest.slices import slices_of
from tests.worker.by_gray import CARD, ByGray
from training.evaluate.scan import Segmenter
from training.experiments.chest import layouts
from training.experiments.chest.layouts import LAYOUTS, Reader, Score, figures, kept_aside, open_folds, score_scan
from training.files import write_json
from worker.networks.checkpoint import save
from worker.networks.engine import Engine
from worker.networks.network import Layout
from worker.networks.registry import build


class ByGrayOfThree:
    """An engine of the 2.5D layout that gives for each of three slices what ``ByGray`` gives for it alone."""

    name = "by-gray"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([ByGray()(batch[:, [z]]) for z in range(3)], axis=2)


class ByGrayOfStacks:
    """An engine of the 3D layout that gives for each slice of a stack what ``ByGray`` gives for it alone."""

    name = "by-gray"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([ByGray()(batch[:, :, z]) for z in range(batch.shape[2])], axis=2)


class BlindOfThree:
    """An engine of the 2.5D layout that finds nothing anywhere."""

    name = "blind"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        nothing = np.array([20, 0, 0, 0], np.float32).reshape(1, 4, 1, 1, 1)
        return np.broadcast_to(nothing, (len(batch), 4, 3, *batch.shape[2:])).copy()


def readers(of_three: Engine | None = None) -> Mapping[str, Reader]:
    assert CARD.window_hu is not None
    assert CARD.image_size is not None
    engines: Mapping[Layout, Engine] = {"2d": ByGray(), "2.5d": of_three or ByGrayOfThree(), "3d": ByGrayOfStacks()}
    return {
        layout: Reader(Segmenter(engine, layout, (1, 1, 1)), CARD.window_hu, CARD.image_size[0], frozenset({"a", "b"}))
        for layout, engine in engines.items()
    }


def scored(given: Mapping[str, Reader]) -> dict[str, dict[str, Score]]:
    scores: dict[str, dict[str, Score]] = {}
    for patient in ("a", "b"):
        score_scan(slices_of(patient), given, scores, patient)
    return scores


def test_every_layout_is_read_as_it_is_and_mirrored_and_then_an_ensemble() -> None:
    scores = scored(readers())
    assert list(scores) == [
        *("2d", "2d-mirrored", "2.5d", "2.5d-mirrored", "3d", "3d-mirrored"),
        "2d+2.5d-mirrored",
    ]
    assert {tuple(patients) for patients in scores.values()} == {("a", "b")}


def test_layouts_that_say_the_same_of_every_slice_score_the_same() -> None:
    values = dict(figures(scored(readers())))
    assert values["2d/infection/dice_per_case"] > 0.7
    # The lesion lies on one side: a mirrored answer that was not mirrored back would halve its probability.
    assert values["2d/infection/gain"] == pytest.approx(0, abs=0.02)
    for layout in ("2.5d", "3d"):
        assert values[f"{layout}/infection/dice_per_case"] == pytest.approx(values["2d/infection/dice_per_case"])
        assert values[f"{layout}-mirrored/infection/gain"] == pytest.approx(0)


def test_a_way_that_finds_nothing_loses_what_the_shipped_way_has() -> None:
    values = dict(figures(scored(readers(BlindOfThree()))))
    assert values["2.5d-mirrored/infection/dice_per_case"] == 0
    assert values["2.5d-mirrored/infection/gain"] == -values["2d-mirrored/infection/dice_per_case"]
    assert values["2.5d-mirrored/infection/gain_high"] < 0


def test_the_time_of_an_ensemble_is_that_of_its_members() -> None:
    scores = scored(readers())
    parts = (scores[way]["a"].seconds for way in ("2d-mirrored", "2.5d-mirrored"))
    assert scores["2d+2.5d-mirrored"]["a"].seconds == pytest.approx(sum(parts))


def test_only_who_was_kept_aside_is_read_scan_by_scan_and_in_order() -> None:
    samples = [*slices_of("b")[::-1], *slices_of("c"), *slices_of("a")]
    kept = dict(kept_aside(samples, readers()))
    assert sorted(kept) == ["a", "b"]
    assert [sample.position for sample in kept["b"]] == sorted(sample.position for sample in kept["b"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out V-Net, because its weights take a minute to write and read."""
    monkeypatch.setattr(layouts, "LAYOUTS", {layout: LAYOUTS[layout] for layout in ("2d", "2.5d")})


def trained(runs: Path, tested: Mapping[str, list[str]]) -> Path:
    for layout, names in tested.items():
        folder = runs / LAYOUTS[layout].name / "split-0"
        folder.mkdir(parents=True)
        write_json(folder / "result.json", {"tested": names})
        write_json(folder.parent / "result.json", {"splits_done": 1, "splits_all": 1, "short": False})
        network = LAYOUTS[layout].network
        save(folder / "weights.safetensors", build(network, CARD.arguments), replace(CARD, network=network))
    return runs


@pytest.mark.usefixtures("small")
def test_networks_of_one_fold_are_opened_together(tmp_path: Path) -> None:
    (fold,) = open_folds(trained(tmp_path, {"2d": ["a"], "2.5d": ["a"]}), False, {"a", "b"})
    assert {layout: reader.segmenter.layout for layout, reader in fold.items()} == {"2d": "2d", "2.5d": "2.5d"}
    (weights,) = (tmp_path / LAYOUTS["2d"].name).glob("*/weights.safetensors")
    weights.write_bytes(b"damaged")
    with pytest.raises(SettingsError, match=r"earlier run.*SHA-256"):
        next(iter(open_folds(tmp_path, False, {"a", "b"})))


@pytest.mark.usefixtures("small")
def test_folds_may_differ_in_what_is_not_compared(tmp_path: Path) -> None:
    (fold,) = open_folds(trained(tmp_path, {"2d": ["a", "phantom-101"], "2.5d": ["a"]}), False, {"a", "b"})
    assert fold["2d"].tested == fold["2.5d"].tested == {"a"}


@pytest.mark.usefixtures("small")
def test_runs_with_other_folds_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="other folds"):
        next(iter(open_folds(trained(tmp_path, {"2d": ["a"], "2.5d": ["b"]}), False, {"a", "b"})))
