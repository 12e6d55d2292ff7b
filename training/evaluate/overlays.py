"""Pages of slices with outlines drawn on them, for a person to judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.evaluate.compare import Judged
from training.evaluate.metrics import Confusion
from training.files import replace_file
from worker.reports.view import LUNG_WINDOW_HU

COLOURS = {"lung": (90, 170, 255), "true": (60, 220, 60), "found": (255, 70, 50)}

TILE, COLUMNS = 256, 4


@dataclass(frozen=True, eq=False)
class Tile:
    """One slice in [0, 1], the masks to outline on it by a key of ``COLOURS``, and a caption."""

    gray: NDArray[np.floating]
    outlines: Mapping[str, NDArray[np.bool_]]
    caption: str


def write_slices(judged: Sequence[Judged], label: int, path: Path) -> None:
    """Write a page of the slices with the lowest, middle and highest Dice of a class.

    Nothing is written if no slice has the class, neither in the truth nor in the prediction.
    """
    scored = []
    for scan in judged:
        images = np.concatenate([sample.image for sample in scan.samples])
        for number, image in enumerate(images):
            outlines = {"true": scan.true[number] == label, "found": scan.predicted[number] == label}
            dice = Confusion.of(outlines["found"], outlines["true"]).dice
            if not math.isnan(dice):
                scored.append((dice, Tile(image, outlines, f"Dice {dice:.2f}, slice {number + 1}, {scan.scan}")))
    if scored:
        write_page(worst_middle_best(scored), path)


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
    gray = np.clip(tile.gray.astype(np.float32) * 255, 0, 255)
    scale = TILE / max(gray.shape)
    size = (round(gray.shape[1] * scale), round(gray.shape[0] * scale))
    pixels = np.repeat(np.asarray(Image.fromarray(gray.astype(np.uint8)).resize(size))[..., None], 3, axis=2)
    for name, mask in tile.outlines.items():
        shown = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        pixels[outline(shown)] = COLOURS[name]
    picture = Image.new("RGB", (TILE, TILE))
    picture.paste(Image.fromarray(pixels))
    ImageDraw.Draw(picture).text((4, TILE - 14), tile.caption, fill=(255, 255, 0))
    return picture


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that touch a pixel outside it."""
    contour = sitk.BinaryContour(sitk.GetImageFromArray(mask.astype(np.uint8)), fullyConnected=True)
    return sitk.GetArrayViewFromImage(contour).astype(np.bool_)
