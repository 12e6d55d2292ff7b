from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.synthetic import discs
from training.evaluate import overlays
from training.evaluate.compare import Judged
from training.evaluate.overlays import (
    COLOURS,
    TILE,
    Tile,
    draw,
    in_lung_window,
    outline,
    worst_middle_best,
    write_page,
    write_slices,
)

GRAY = np.full((60, 100), 0.3, np.float32)
MASK = np.zeros(GRAY.shape, np.bool_)
MASK[20:40, 30:70] = True


def test_an_outline_is_the_border_of_the_mask_alone() -> None:
    assert outline(MASK).sum() == 2 * 40 + 2 * 18


def test_an_outline_is_drawn_in_its_colour_where_the_mask_is() -> None:
    pixels = np.asarray(draw(Tile(GRAY, {"found": MASK}, "")))
    rows, columns = np.nonzero((pixels == COLOURS["found"]).all(axis=2))
    scale = TILE / 100
    assert abs(rows.min() - 20 * scale) < 2
    assert abs(columns.max() - 70 * scale) < 2


def test_a_page_has_four_tiles_a_row(tmp_path: Path) -> None:
    write_page([Tile(GRAY, {}, "a")] * 5, tmp_path / "page.jpg")
    assert Image.open(tmp_path / "page.jpg").size == (4 * TILE, 2 * TILE)


def test_a_page_shows_the_worst_first_and_the_best_last() -> None:
    scored = [(score / 20, Tile(GRAY, {}, str(score))) for score in (*range(10, 20), *range(10))]
    captions = [int(tile.caption) for tile in worst_middle_best(scored)]
    assert captions == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]


def test_few_slices_are_all_shown_once() -> None:
    scored = [(score / 20, Tile(GRAY, {}, str(score))) for score in (2, 0, 1)]
    assert [tile.caption for tile in worst_middle_best(scored)] == ["0", "1", "2"]


def test_gray_is_black_and_white_at_the_ends_of_the_lung_window() -> None:
    assert in_lung_window(np.array([-1350, -600, 150], np.int16)).tolist() == [0, 0.5, 1]


def test_a_caption_begins_with_what_a_long_name_of_a_scan_would_push_out_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tile] = []
    monkeypatch.setattr(overlays, "write_page", lambda tiles, path: shown.extend(tiles))
    sample, *_ = discs(tmp_path / "prepared", count=1)
    write_slices([Judged(f"anna/{'1' * 64}", (sample,), sample.labels, sample.labels, 0.1)], 1, tmp_path / "slices.jpg")
    assert [tile.caption[:18] for tile in shown] == ["Dice 1.00, slice 1"]


def test_slices_that_show_nothing_and_in_which_nothing_was_found_are_left_out(tmp_path: Path) -> None:
    samples = discs(tmp_path / "prepared", count=2)
    found = np.zeros_like(samples[0].labels)
    judged = [
        Judged(s.scan, (s,), found, true, 0.1) for s, true in zip(samples, (samples[0].labels, found), strict=True)
    ]
    write_slices(judged, 1, tmp_path / "slices.jpg")
    assert Image.open(tmp_path / "slices.jpg").size == (4 * TILE, TILE)
    write_slices(judged[1:], 1, tmp_path / "none.jpg")
    assert not (tmp_path / "none.jpg").exists()
