"""What pictures of a tested scan need, small enough that all scans of a split can be on one page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.evaluate.compare import Judged
from training.evaluate.metrics import Confusion, Values, area_plot, area_plot_likeness
from training.evaluate.overlays import Tile
from training.prepare.prepared import pixel_volumes


@dataclass(frozen=True, eq=False)
class Sketch:
    """One class in one scan: its area-plots, how alike they are, and a tile with its Dice for every slice that has it.

    Parameters
    ----------
    true_plot, found_plot : ndarray, shape (slices,)
        As ``metrics.area_plot`` returns them.
    tiles : tuple of (float, Tile)
        A slice without the class, in the truth and in the result, has none.
    """

    scan: str
    true_plot: Values
    found_plot: Values
    likeness: float
    tiles: tuple[tuple[float, Tile], ...]


def sketch(
    scan: str, gray: NDArray[np.floating], found: NDArray[np.bool_], true: NDArray[np.bool_], pixels: ArrayLike = 1.0
) -> Sketch:
    """Return the sketch of a class.

    Parameters
    ----------
    gray, found, true : ndarray, shape (slices, rows, columns)
        Images in [0, 1], and masks.
    pixels : array_like
        Size of a pixel of each slice, in any unit.
    """
    return Sketch(
        scan=scan,
        true_plot=area_plot(true, pixels),
        found_plot=area_plot(found, pixels),
        likeness=area_plot_likeness(found, true, pixels),
        tiles=tuple(_tiles(scan, gray, found, true)),
    )


def sketches_of(judged: Sequence[Judged], label: int) -> list[Sketch]:
    """Return the sketches of a class in scans that were judged on the network's grid."""
    return [
        sketch(
            scan.scan,
            np.concatenate([sample.image for sample in scan.samples]),
            scan.predicted == label,
            scan.true == label,
            pixel_volumes(scan.samples),
        )
        for scan in judged
    ]


def _tiles(
    scan: str, gray: NDArray[np.floating], found: NDArray[np.bool_], true: NDArray[np.bool_]
) -> Iterator[tuple[float, Tile]]:
    for number, image in enumerate(gray):
        outlines = {"true": true[number], "found": found[number]}
        dice = Confusion.of(outlines["found"], outlines["true"]).dice
        if not math.isnan(dice):
            yield dice, Tile.of(image, outlines, f"Dice {dice:.2f}, slice {number + 1}, {scan}")
