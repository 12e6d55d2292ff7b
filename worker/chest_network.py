"""Lungs and infection by one network: the lungs first, in the body; then infection, strictly within them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.candidates import SMALLEST_ML, by_size
from worker.findings import LEFT, RIGHT, Algorithm, Flag, Lungs, Mask
from worker.framing import Frame, body_box
from worker.gates import disagreement
from worker.grid import Bools, Grid, bounding_box, filled
from worker.lungs import bowel_gas, divide
from worker.networks.card import Card, read_card
from worker.networks.engine import Engine, EngineName, open_engine
from worker.networks.errors import NetworkError
from worker.pipeline import Method
from worker.volume import Volume

CLASSES = ("background", "lung", "infection", "pleural_effusion")
LUNG, INFECTION = CLASSES.index("lung"), CLASSES.index("infection")

Classes = tuple[int, ...]

WHOLE_LUNG: Classes = (LUNG, INFECTION)
INFECTED: Classes = (INFECTION,)
"""What is asked of a pixel: is it one of these classes? Infected lung is lung."""

LEAST = np.float32(1e-6)
"""Of a probability: its logarithm stays finite."""

BATCH = 8
"""Slices that the network is given together."""

BLOCK_MM = 1.6
"""Grid on which the lungs are cleaned."""

SMALLEST_PART_SHARE = 0.1
"""Of a side's largest part: smaller ones are bowel or airways."""

MARGIN_MM = 10.0
"""Around the lungs, in what the network sees when it looks for infection."""

ALONG_MM = 2.0
"""Standard deviation of the Gaussian along the slices: a lesion continues in the next slice, noise does not."""


@dataclass(frozen=True)
class ChestNetwork:
    """A trained network with the classes of ``CLASSES``, ready to read scans.

    Parameters
    ----------
    engine : Engine
    card : Card
        Of its weights; ``threshold`` is the probability from which a pixel is infected, ``image_size`` the
        square that it reads.
    """

    engine: Engine
    card: Card

    @classmethod
    def open(cls, path: Path, engine: EngineName = "auto", threads: int | None = None) -> Self:
        """Load weights and their card.

        Raises
        ------
        NetworkError
            As ``open_engine``, or because the card is malformed or the network has other classes, no HU window, no
            square image or sees more than one slice.
        """
        card = read_card(path.with_suffix(".json"))
        is_square = card.image_size is not None and card.image_size[0] == card.image_size[1]
        if card.classes != CLASSES or card.window_hu is None or not is_square or card.stack_slices != 1:
            raise NetworkError(
                "no-chest-network",
                f"expected a 2D network with an HU window, a square image and the classes {', '.join(CLASSES)}; "
                f"the card of {path.name} names {', '.join(card.classes)}",
            )
        return cls(open_engine(path, card, engine, threads), card)

    def segment_lungs(self, volume: Volume) -> Lungs:
        """Segment left and right lung, infection in them included; effusion and large airways are left out."""
        labels = np.zeros(volume.hu.shape, np.uint8)
        geometry = volume.geometry
        hu, result = geometry.anatomical(volume.hu), geometry.anatomical(labels)
        rows, columns = body_box(hu)
        lung = np.zeros(hu.shape, np.bool_)
        for part, log_odds in self.read(hu, rows, columns, WHOLE_LUNG):
            lung[part, rows, columns] = log_odds[:, 0] >= 0
        if lung.any():
            grid = Grid.about(BLOCK_MM, geometry)
            blocks = grid.shrink(lung.astype(np.int16) * 1000) >= 300
            blocks &= ~bowel_gas(grid, grid.smoothed(grid.shrink(hu), 1.2), blocks)
            middle = (columns.start + columns.stop) / 2 / grid.strides[2]
            for value, side in zip((LEFT, RIGHT), _sides(grid, blocks, middle), strict=True):
                result[(result == 0) & filled(lung & grid.expand(side, hu.shape))] = value
        return Lungs(labels, geometry)

    def segment_infection(self, volume: Volume, lungs: Lungs) -> tuple[Mask, tuple[Flag, ...]]:
        """Segment infection in the lungs, from the mean of the slices as they are and mirrored.

        A flag says where the two disagree so much that neither can be believed.
        """
        geometry = volume.geometry
        infection = np.zeros(volume.hu.shape, np.bool_)
        hu, lung, result = (geometry.anatomical(array) for array in (volume.hu, lungs.labels != 0, infection))
        if not lung.any():
            return Mask(infection, geometry), ()
        z_mm, y_mm, x_mm = geometry.anatomical_spacing_mm
        slices, rows, columns = bounding_box(lung, margin=(0, round(MARGIN_MM / y_mm), round(MARGIN_MM / x_mm)))
        rows, columns = _within(rows, hu.shape[1]), _within(columns, hu.shape[2])
        box = (slices, rows, columns)
        found = np.empty(hu[box].shape, np.float16)
        agreement = Agreement()
        for part, log_odds in self.read_twice(hu[slices], rows, columns, agreement, INFECTED):
            found[part] = probability(log_odds[:, 0])
        result[box] = lung[box] & _is_above(found, self.card.threshold, ALONG_MM / z_mm)
        return Mask(infection, geometry), tuple(disagreement(agreement.found_percent, agreement.difference_percent))

    def read(
        self, hu: NDArray[np.int16], rows: slice, columns: slice, *asked: Classes
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Give out what the network says of consecutive slices, from the first to the last.

        Parameters
        ----------
        hu : ndarray of int16, (slices, rows, columns)
            Feet to head, front to back, right to left.
        rows, columns : slice
            What the network is shown of each slice.
        asked : tuple of int
            Classes, each time as one.

        Yields
        ------
        tuple of slice and ndarray of float32, (slices of the part, asked, rows shown, columns shown)
            Log-odds that a pixel is one of the classes.
        """
        for part, frame, batch in self._batches(hu, rows, columns):
            yield part, frame.place(log_odds_of(self.engine(batch), asked))

    def read_twice(
        self, hu: NDArray[np.int16], rows: slice, columns: slice, agreement: Agreement, *asked: Classes
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Give out what ``read`` does, from the mean over slices and their mirror images, and note how they agree."""
        for part, frame, batch in self._batches(hu, rows, columns):
            plain = self.engine(batch)
            mirrored = np.ascontiguousarray(self.engine(np.ascontiguousarray(batch[..., ::-1]))[..., ::-1])
            agreement.note(*(log_odds_of(logits, (WHOLE_LUNG, INFECTED)) for logits in (plain, mirrored)))
            yield part, frame.place(log_odds_of(np.float32(0.5) * (plain + mirrored), asked))

    def _batches(
        self, hu: NDArray[np.int16], rows: slice, columns: slice
    ) -> Iterator[tuple[slice, Frame, NDArray[np.float32]]]:
        assert self.card.window_hu is not None and self.card.image_size is not None  # noqa: S101, PT018  # by open
        frame = Frame(rows, columns, self.card.image_size[0])
        for first in range(0, len(hu), BATCH):
            part = slice(first, min(first + BATCH, len(hu)))
            yield part, frame, frame.show(hu[part], self.card.window_hu)[:, None]

    @property
    def method(self) -> Method:
        """What the pipeline calls."""
        return Method(
            algorithm=Algorithm(
                name="Hilum chest network",
                version="1.0",
                weights_sha256=self.card.weights_sha256,
                settings=(
                    ("threshold", str(self.card.threshold)),
                    ("image_size", str(self.card.image_size)),
                    ("smallest_region_ml", str(SMALLEST_ML)),
                ),
            ),
            segment_lungs=self.segment_lungs,
            segment_infection=self.segment_infection,
            judge=by_size,
        )


@dataclass
class Agreement:
    """How much infection two readings of the same slices find, and how far apart they are, in pixels."""

    lung: float = 0.0
    found: float = 0.0
    difference: float = 0.0

    def note(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Add the log-odds of whole lung and infection in some slices, (slices, 2, rows, columns)."""
        inside = one[:, 0] + other[:, 0] >= 0
        infected = [probability(log_odds[:, 1][inside]) for log_odds in (one, other)]
        self.lung += float(np.count_nonzero(inside))
        self.found += float(infected[0].sum() + infected[1].sum()) / 2
        self.difference += float(np.abs(infected[0] - infected[1]).sum())

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.lung + other.lung, self.found + other.found, self.difference + other.difference)

    @property
    def found_percent(self) -> float:
        """Infection in percent of the lung, the mean of both readings."""
        return 100 * self.found / max(self.lung, 1.0)

    @property
    def difference_percent(self) -> float:
        """What only one of the readings calls infection, in percent of the lung."""
        return 100 * self.difference / max(self.lung, 1.0)


def log_odds_of(logits: NDArray[np.float32], asked: Sequence[Classes]) -> NDArray[np.float32]:
    """Return the log-odds of unions of classes, (n, asked, rows, columns), of logits (n, classes, rows, columns)."""
    shares: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    unions: NDArray[np.float32] = np.stack([shares[:, classes].sum(axis=1) for classes in asked], axis=1)
    others = shares.sum(axis=1, keepdims=True) - unions
    log_odds: NDArray[np.float32] = np.log(np.maximum(unions, LEAST)) - np.log(np.maximum(others, LEAST))
    return log_odds


def probability(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability that belongs to log-odds."""
    probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-log_odds))
    return probabilities


def _is_above(found: NDArray[np.float16], threshold: float, sigma: float) -> Bools:
    """Whether probabilities, smoothed along the slices with a sigma in slices, reach a threshold."""
    reach = int(2 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    weights = weights / weights.sum()
    above = np.empty(found.shape, np.bool_)
    for z in range(len(found)):
        near = np.clip(np.arange(z - reach, z + reach + 1), 0, len(found) - 1)
        above[z] = np.tensordot(weights, found[near].astype(np.float32), 1) >= threshold
    return above


def _sides(grid: Grid, blocks: Bools, middle: float) -> tuple[Bools, Bools]:
    """Return the blocks of the left and of the right lung, on their sides of a column, without small parts."""
    sides = []
    for parts in divide(grid, blocks, middle):
        largest = max((np.count_nonzero(part) for part in parts), default=0)
        side = np.zeros_like(blocks)
        for part in parts:
            if np.count_nonzero(part) >= SMALLEST_PART_SHARE * largest:
                side |= part
        sides.append(side)
    return sides[0], sides[1]


def _within(span: slice, length: int) -> slice:
    return slice(max(0, span.start), min(length, span.stop))
