from pathlib import Path

import numpy as np
from PIL import Image

from training.evaluate.overlays import (
    COLOURS,
    TILE,
    Tile,
    draw,
    in_lung_window,
    outline,
    worst_middle_best,
    write_page,
)

GRAY = np.full((60, 100), 0.3, np.float32)
MASK = np.zeros(GRAY.shape, np.bool_)
MASK[20:40, 30:70] = True


def test_an_outline_is_the_border_of_the_mask_alone() -> None:
    assert outline(MASK).sum() == 2 * 40 + 2 * 18


def test_an_outline_is_drawn_in_its_colour_where_the_mask_is() -> None:
    pixels = np.asarray(draw(Tile.of(GRAY, {"found": MASK}, "")))
    rows, columns = np.nonzero((pixels == COLOURS["found"]).all(axis=2))
    scale = TILE / 100
    assert abs(rows.min() - 20 * scale) < 2
    assert abs(columns.max() - 70 * scale) < 2


def test_a_page_has_four_tiles_a_row(tmp_path: Path) -> None:
    write_page([Tile.of(GRAY, {}, "a")] * 5, tmp_path / "page.jpg")
    assert Image.open(tmp_path / "page.jpg").size == (4 * TILE, 2 * TILE)


def test_a_page_shows_the_worst_first_and_the_best_last() -> None:
    scored = [(score / 20, Tile.of(GRAY, {}, str(score))) for score in (*range(10, 20), *range(10))]
    captions = [int(tile.caption) for tile in worst_middle_best(scored)]
    assert captions == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]


def test_few_slices_are_all_shown_once() -> None:
    scored = [(score / 20, Tile.of(GRAY, {}, str(score))) for score in (2, 0, 1)]
    assert [tile.caption for tile in worst_middle_best(scored)] == ["0", "1", "2"]


def test_gray_is_black_and_white_at_the_ends_of_the_lung_window() -> None:
    assert in_lung_window(np.array([-1350, -600, 150], np.int16)).tolist() == [0, 0.5, 1]
