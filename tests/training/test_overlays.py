from pathlib import Path

import numpy as np
from PIL import Image

from training.overlays import COLOURS, TILE, Tile, draw, outline, write_page

HU = np.full((60, 100), -800, np.int16)
MASK = np.zeros(HU.shape, np.bool_)
MASK[20:40, 30:70] = True


def test_an_outline_is_the_border_of_the_mask_alone() -> None:
    assert outline(MASK).sum() == 2 * 40 + 2 * 18


def test_an_outline_is_drawn_in_its_colour_where_the_mask_is() -> None:
    pixels = np.asarray(draw(Tile(HU, {"found": MASK}, "")))
    rows, columns = np.nonzero((pixels == COLOURS["found"]).all(axis=2))
    scale = TILE / 100
    assert abs(rows.min() - 20 * scale) < 2
    assert abs(columns.max() - 70 * scale) < 2


def test_a_page_has_four_tiles_a_row(tmp_path: Path) -> None:
    write_page([Tile(HU, {}, "a")] * 5, tmp_path / "page.jpg")
    assert Image.open(tmp_path / "page.jpg").size == (4 * TILE, 2 * TILE)
