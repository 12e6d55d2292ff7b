"""Lungs and infection by one network in two passes: the lungs in the body, then infection strictly within the lungs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import PassingFailure
from worker.candidates import SMALLEST_ML, Candidates
from worker.findings import LEFT, RIGHT, Algorithm, Lungs, Mask
from worker.framing import Framing, body_box
from worker.gates import disagreement
from worker.grid import Bools, Grid, bounding_box, with_enclosed
from worker.layers import LOWEST_MM, LOWEST_SLICES, by_size_and_place
from worker.log_odds import Agreement, Classes, log_odds_at, log_odds_of, probability
from worker.lungs import body_of, bowel_gas, divide
from worker.networks.card import Card, read_card
from worker.networks.engine import Engine
from worker.networks.errors import NetworkError
from worker.networks.opening import open_engine
from worker.pipeline import Method
from worker.slabs import Slabs
from worker.volume import Volume

CLASSES = ("background", "lung", "infection", "pleural_effusion")
LUNG, INFECTION = CLASSES.index("lung"), CLASSES.index("infection")

WHOLE_LUNG: Classes = (LUNG, INFECTION)
INFECTED: Classes = (INFECTION,)
"""Infected lung counts as lung."""

BATCH = 8
"""Slabs that the network reads in one call."""

BLOCK_MM = 1.6
"""Block size of the grid on which the lungs are cleaned."""

LUNG_SHARE = 0.3
"""A block belongs to the lungs if at least this share of its voxels does."""

SMALLEST_PART_SHARE = 0.1
"""Parts smaller than this share of a side's largest part are bowel or airways."""

MARGIN_MM = 10.0
"""Margin, within the slices, around the lungs in the images in which the network looks for infection."""

SLAB_MM = 2.0
"""As many slices as fit into this are averaged and read as one; in the plane, the network's pixels are about 1.5 mm."""

ALONG_MM = 2.0
"""Standard deviation of the Gaussian that smooths the probability of infection along the slices.

A lesion continues in the next slice, noise does not.
"""


def require_chest_network(card: Card) -> None:
    """Raise NetworkError unless the card is that of a network that ``ChestNetwork`` can read scans with."""
    is_square = card.image_size is not None and card.image_size[0] == card.image_size[1]
    if card.classes != CLASSES or card.window_hu is None or not is_square or card.stack_slices != 1:
        raise NetworkError(
            "no-chest-network",
            f"expected a 2D network with an HU window, a square image and the classes {', '.join(CLASSES)}; "
            f"the card names {', '.join(card.classes)}",
        )


@dataclass(frozen=True)
class ChestNetwork:
    """A trained network with the classes of ``CLASSES``, ready to read scans.

    Parameters
    ----------
    engine : Engine
    card : Card
        The card of the network's weights; ``threshold`` is the probability from which a pixel counts as infected,
        ``image_size`` the size of the square image that the network reads.
    """

    engine: Engine
    card: Card

    @classmethod
    def open(cls, path: Path, threads: int | None = None) -> Self:
        """Load weights and their card.

        Raises
        ------
        NetworkError
            As ``open_engine``, or because the card is malformed or the network has other classes, no HU window, no
            square image or sees more than one slice at once.
        OSError
            A file cannot be read.
        """
        card = read_card(path.with_suffix(".json"))
        require_chest_network(card)
        return cls(open_engine(path, card, threads), card)

    def segment_lungs(self, volume: Volume) -> Lungs:
        """Segment left and right lung, infection in them included; effusion and large airways are left out."""
        labels = np.zeros(volume.hu.shape, np.uint8)
        geometry = volume.geometry
        hu, result = geometry.anatomical(volume.hu), geometry.anatomical(labels)
        rows, columns = body_box(hu)
        z_mm, y_mm, x_mm = geometry.anatomical_spacing_mm
        lung = self._lung(hu, z_mm, self.frame(rows, columns, y_mm / x_mm))
        if lung.any():
            grid = Grid.about(BLOCK_MM, geometry)
            middle = (columns.start + columns.stop) / 2 / grid.strides[2]
            for value, side in zip((LEFT, RIGHT), _sides(grid, _blocks(grid, hu, lung), middle), strict=True):
                if side.any():
                    box = bounding_box(side)
                    at = grid.voxels(box, hu.shape)
                    own = with_enclosed(lung[at] & grid.expand(side[box], lung[at].shape))
                    result[at][own & (result[at] == 0)] = value
        return Lungs(labels, geometry)

    def _lung(self, hu: NDArray[np.int16], z_mm: float, frame: Framing) -> Bools:
        """Return the voxels that the network takes for lung, infected or not, before they are cleaned."""
        slabs = Slabs.about(SLAB_MM, len(hu), z_mm)
        log_odds = self.read(hu, slabs, frame, WHOLE_LUNG)[:, 0]
        lung = np.zeros(hu.shape, np.bool_)
        for z in range(len(hu)):
            lung[z, frame.rows, frame.columns] = frame.reaches(slabs.at(log_odds, z), 0)
        return lung

    def segment_infection(self, volume: Volume, lungs: Lungs) -> Candidates:
        """Segment infection in the lungs, from the mean of two readings: of the slices and of their mirror images.

        The result carries a doubt if the two readings disagree so much that neither can be trusted.
        """
        geometry = volume.geometry
        infection, percent = np.zeros(volume.hu.shape, np.bool_), np.zeros(volume.hu.shape, np.uint8)
        hu, labels = geometry.anatomical(volume.hu), geometry.anatomical(lungs.labels)
        if not labels.any():
            return Candidates(Mask(infection, geometry), (), percent)
        z_mm, y_mm, x_mm = geometry.anatomical_spacing_mm
        slices, rows, columns = bounding_box(labels, margin=(0, round(MARGIN_MM / y_mm), round(MARGIN_MM / x_mm)))
        frame = self.frame(rows, columns, y_mm / x_mm)
        slabs = Slabs.about(SLAB_MM, slices.stop - slices.start, z_mm)
        agreement = Agreement()
        log_odds = self.read_twice(hu[slices], slabs, frame, agreement, INFECTED)[:, 0]
        found = log_odds_at(_smoothed(probability(log_odds), ALONG_MM / (z_mm * slabs.slices_each)))
        least = float(log_odds_at(np.float32(self.card.threshold)))
        for z in range(slabs.slices):
            values = slabs.at(found, z)
            if values.max() >= least:
                at = (slices.start + z, frame.rows, frame.columns)
                placed = frame.place(values)
                inside = (labels[at] != 0) & (placed >= least)
                geometry.anatomical(infection)[at] = inside
                geometry.anatomical(percent)[at][inside] = np.round(100 * probability(placed[inside]))
        doubts = tuple(disagreement(agreement.found_percent, agreement.difference_percent))
        return Candidates(Mask(infection, geometry), doubts, percent)

    def frame(self, rows: slice, columns: slice, aspect: float = 1.0) -> Framing:
        """Return the part of each slice that the network is shown; ``aspect`` is a pixel's height over its width."""
        assert self.card.image_size is not None  # noqa: S101  # checked by open
        return Framing(rows, columns, self.card.image_size[0], aspect)

    def read(self, hu: NDArray[np.int16], slabs: Slabs, frame: Framing, *asked: Classes) -> NDArray[np.float32]:
        """Return the log-odds of classes that the network finds in a scan, on the network's square image.

        Parameters
        ----------
        hu : ndarray of int16, (slices, rows, columns)
            Feet to head, front to back, right to left.
        slabs : Slabs
            Groups of these slices; the mean of each group is read as one image.
        frame : Framing
        asked : tuple of int
            Sets of classes; each set is treated as one class.

        Returns
        -------
        ndarray of float32, (slabs, asked, side, side)
            Log-odds that a pixel is one of the classes of each set.
        """
        return np.concatenate([log_odds_of(self._logits(batch), asked) for batch in self._batches(hu, slabs, frame)])

    def read_twice(
        self, hu: NDArray[np.int16], slabs: Slabs, frame: Framing, agreement: Agreement, *asked: Classes
    ) -> NDArray[np.float32]:
        """Return what ``read`` does, but from the mean logits of the slices and their mirror images.

        How the two readings agree is added to ``agreement``.
        """
        answers = []
        for batch in self._batches(hu, slabs, frame):
            plain = self._logits(batch)
            mirrored = np.ascontiguousarray(self._logits(np.ascontiguousarray(batch[..., ::-1]))[..., ::-1])
            agreement.note(*(log_odds_of(logits, (WHOLE_LUNG, INFECTED)) for logits in (plain, mirrored)))
            answers.append(log_odds_of(np.float32(0.5) * (plain + mirrored), asked))
        return np.concatenate(answers)

    def _logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the engine's logits, all of them finite; any other would count as no infection."""
        logits = self.engine(batch)
        if not np.isfinite(logits).all():
            raise PassingFailure(
                "network-not-finite",
                f"the network's values are not finite with {self.engine.name}, so nothing can be measured with it; "
                "see to the weights, or to this machine's memory and processors",
            )
        return logits

    def _batches(self, hu: NDArray[np.int16], slabs: Slabs, frame: Framing) -> Iterator[NDArray[np.float32]]:
        assert self.card.window_hu is not None  # noqa: S101  # checked by open
        shown = hu[:, frame.rows, frame.columns]
        for first in range(0, len(slabs), BATCH):
            group = range(first, min(first + BATCH, len(slabs)))
            yield np.stack([frame.show(slabs.mean(shown, slab), self.card.window_hu) for slab in group])[:, None]

    @property
    def method(self) -> Method:
        """The stages that the pipeline calls to use this network."""
        return Method(
            algorithm=Algorithm(
                name="Hilum chest network",
                version="1.0",
                weights_sha256=self.card.weights_sha256,
                settings=(
                    ("threshold", str(self.card.threshold)),
                    ("image_size", str(self.card.image_size)),
                    ("smallest_region_ml", str(SMALLEST_ML)),
                    ("lowest_on_tissue", f"{LOWEST_MM} mm or {LOWEST_SLICES} slices"),
                ),
            ),
            segment_lungs=self.segment_lungs,
            segment_infection=self.segment_infection,
            judge=by_size_and_place,
        )


def _smoothed(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return values smoothed by a Gaussian along the first axis; ``sigma`` is in steps of that axis."""
    reach = int(2 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    padded = np.pad(values, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    smoothed = np.zeros_like(values)
    for shift, weight in enumerate(weights):
        smoothed += weight * padded[shift : shift + len(values)]
    return smoothed


def _blocks(grid: Grid, hu: NDArray[np.int16], lung: Bools) -> Bools:
    """Return the blocks that belong to the lungs, without blocks outside the body and without bowel gas."""
    coarse = grid.shrink(hu)
    blocks = (grid.share(lung) >= LUNG_SHARE) & body_of(grid, coarse)
    return blocks & ~bowel_gas(grid, grid.smoothed(coarse, 1.2), blocks)


def _sides(grid: Grid, blocks: Bools, middle: float) -> tuple[Bools, Bools]:
    """Return the blocks of the left and of the right lung, divided at the column ``middle``, without small parts."""
    sides = []
    for parts in divide(grid, blocks, middle):
        largest = max((np.count_nonzero(part) for part in parts), default=0)
        side = np.zeros_like(blocks)
        for part in parts:
            if np.count_nonzero(part) >= SMALLEST_PART_SHARE * largest:
                side |= part
        sides.append(side)
    return sides[0], sides[1]
