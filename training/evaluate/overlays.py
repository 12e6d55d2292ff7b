"""Pages of slices with outlines drawn on them, for a person to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from training.files import replace_file
from worker.reports.view import LUNG_WINDOW_HU

COLOURS = {"lung": (90, 170, 255), "true": (60, 220, 60), "found": (255, 70, 50)}

TILE, COLUMNS = 256, 4


@dataclass(frozen=True, eq=False)
class Tile:
    """The picture of a slice, the masks of its size to outline on it by a key of ``COLOURS``, and a caption."""

    gray: NDArray[np.uint8]
    outlines: Mapping[str, NDArray[np.bool_]]
    caption: str

    @classmethod
    def of(cls, image: NDArray[np.floating], outlines: Mapping[str, NDArray[np.bool_]], caption: str) -> Tile:
        """Return a tile of an image in [0, 1] and masks of any size."""
        gray = np.clip(image.astype(np.float32) * 255, 0, 255).astype(np.uint8)
        fitted = {name: _fitted(mask, Image.Resampling.NEAREST) for name, mask in outlines.items()}
        return cls(_fitted(gray, Image.Resampling.BICUBIC), fitted, caption)


def worst_middle_best(scored: Sequence[tuple[float, Tile]]) -> list[Tile]:
    """Return one row each of tiles with the lowest, middle and highest scores; all tiles if these fill no more rows."""
    tiles = [tile for _, tile in sorted(scored, key=lambda entry: entry[0])]
    if len(tiles) <= 3 * COLUMNS:
        return tiles
    middle = (len(tiles) - COLUMNS) // 2
    return [*tiles[:COLUMNS], *tiles[middle : middle + COLUMNS], *tiles[-COLUMNS:]]


def in_lung_window(hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return HU as gray, 0 to 1 within the lung window."""
    low, high = LUNG_WINDOW_HU
    return (hu.astype(np.float32) - low) / (high - low)


def write_page(tiles: Sequence[Tile], path: Path) -> None:
    """Write tiles, four per row, as a JPEG."""
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * TILE, rows * TILE))
    for number, tile in enumerate(tiles):
        page.paste(draw(tile), ((number % COLUMNS) * TILE, (number // COLUMNS) * TILE))
    replace_file(path, lambda partial: page.save(partial, "JPEG", quality=80))


def draw(tile: Tile) -> Image.Image:
    """Return the picture of a tile."""
    pixels = np.repeat(tile.gray[..., None], 3, axis=2)
    for name, mask in tile.outlines.items():
        pixels[outline(mask)] = COLOURS[name]
    picture = Image.new("RGB", (TILE, TILE))
    picture.paste(Image.fromarray(pixels))
    ImageDraw.Draw(picture).text((4, TILE - 14), tile.caption, fill=(255, 255, 0))
    return picture


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that touch a pixel outside it."""
    contour = sitk.BinaryContour(sitk.GetImageFromArray(mask.astype(np.uint8)), fullyConnected=True)
    return sitk.GetArrayViewFromImage(contour).astype(np.bool_)


def _fitted(image: NDArray[Any], resampling: Image.Resampling) -> NDArray[Any]:
    """Return an image or mask with its longer side as long as a tile's."""
    return np.asarray(ImageOps.contain(Image.fromarray(image), (TILE, TILE), resampling))
