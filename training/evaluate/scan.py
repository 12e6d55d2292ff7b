"""Read a whole scan with a network: windows of slices in, probabilities of each voxel out.

A scan is cut along the slices into windows of as many slices as the network sees at once: one in 2D, three in 2.5D
(Wu et al. 2020, "Network structure"), a stack in 3D (Shivdeo et al. 2021, section 4.2). Where windows overlap,
as in 2.5D, probabilities are averaged. Slices are yielded as soon as they are done, so that the probabilities
of a whole scan are never in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.prepare.stacks import window_starts
from worker.networks.card import Card, read_card
from worker.networks.engine import Engine
from worker.networks.errors import NetworkError
from worker.networks.network import Layout, SegmentationNetwork
from worker.networks.opening import open_engine
from worker.networks.registry import build


@dataclass(frozen=True)
class Segmenter:
    """A segmentation network ready to read scans.

    Parameters
    ----------
    engine : Engine
        Runs the network.
    layout : Layout
        How the network sees a scan.
    divisors : tuple of int
        (slices, rows, columns) of its input are multiples of these.
    threshold : float
        Probability from which a voxel belongs to a sigmoid's class.
    stack_slices : int
        Slices of a window in 3D, where windows follow each other. Windows of 2D have 1 slice, of 2.5D 3; they move by
        one slice.
    batch : int
        Windows that the network is given together in 2D and 2.5D; in 3D it gets one at a time.

    Raises
    ------
    NetworkError
        The network cannot read stacks of that many slices.
    """

    engine: Engine
    layout: Layout
    divisors: tuple[int, int, int]
    threshold: float = 0.5
    stack_slices: int = 32
    batch: int = 4

    def __post_init__(self) -> None:
        depth, _ = self.window_slices
        if depth % self.divisors[0] != 0:
            raise NetworkError("bad-stack", f"stacks must be a multiple of {self.divisors[0]} slices, got {depth}")

    def labels(self, scan: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return the label of every voxel, (slices, rows, columns) as the scan; 0 is the background.

        A sigmoid's class is labelled 1 from ``threshold`` on; of a softmax, the likeliest class is taken.
        """
        labels = np.empty(scan.shape, np.uint8)
        for first, probabilities in self.probabilities(scan):
            if probabilities.shape[1] == 1:
                chunk = probabilities[:, 0] >= self.threshold
            else:
                chunk = probabilities.argmax(axis=1)
            labels[first : first + len(chunk)] = chunk
        return labels

    def probabilities(self, scan: NDArray[np.generic]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the probabilities of consecutive slices, from the first to the last.

        Parameters
        ----------
        scan : ndarray, (slices, rows, columns)
            The network's input, on its grid.

        Yields
        ------
        first : int
            Index of the chunk's first slice.
        probabilities : ndarray of float32, (slices of the chunk, classes, rows, columns)
        """
        depth, step = self.window_slices
        starts = window_starts(len(scan), depth, step)
        first = 0
        sums: NDArray[np.float32] | None = None
        counts = np.zeros(0, np.float32)
        windows = 1 if self.layout == "3d" else self.batch
        for i in range(0, len(starts), windows):
            group = starts[i : i + windows]
            end = group[-1] + depth
            # The last window may reach beyond the scan: the last slice is repeated there.
            slices = np.minimum(np.add.outer(group, np.arange(depth)), len(scan) - 1)
            found = self.read_windows(scan[slices])
            if sums is None:
                sums = np.zeros((0, found.shape[2], *found.shape[3:]), np.float32)
            sums = grow(sums, end - first)
            counts = grow(counts, end - first)
            for start, window in zip(group, found, strict=True):
                sums[start - first : start - first + depth] += window
                counts[start - first : start - first + depth] += 1
            following = starts[i + windows] if i + windows < len(starts) else len(scan)
            done = following - first
            yield first, sums[:done] / counts[:done, None, None, None]
            first, sums, counts = following, sums[done:], counts[done:]

    @property
    def window_slices(self) -> tuple[int, int]:
        """The number of slices of a window, and from one window's start to the next's."""
        match self.layout:
            case "2d":
                return 1, 1
            case "2.5d":
                return 3, 1
            case "3d":
                return self.stack_slices, self.stack_slices

    def read_windows(self, windows: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities (n, depth, classes, rows, columns) of windows (n, depth, rows, columns)."""
        rows, columns = windows.shape[2:]
        _, row_divisor, column_divisor = self.divisors
        padding = ((0, 0), (0, 0), (0, -rows % row_divisor), (0, -columns % column_divisor))
        batch = np.pad(windows.astype(np.float32), padding, mode="edge")
        if self.layout == "3d":
            batch = batch[:, None]
        logits = torch.from_numpy(self.engine(np.ascontiguousarray(batch)))
        found = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
        if self.layout == "2d":
            found = found[:, :, None]
        windows_found: NDArray[np.float32] = found.transpose(1, 2)[..., :rows, :columns].numpy()
        return windows_found


def open_segmenter(path: Path) -> tuple[Segmenter, Card]:
    """Return a segmenter with the weights in a file, and their card.

    Raises
    ------
    NetworkError
        The weights are not those of a segmentation network, or as ``open_engine``.
    OSError
        A file cannot be read.
    """
    card = read_card(path.with_suffix(".json"))
    with torch.device("meta"):
        network = build(card.network, card.arguments)
    if not isinstance(network, SegmentationNetwork):
        raise NetworkError("no-segmentation", f"{path.name} holds a {card.network!r}, which segments nothing")
    segmenter = Segmenter(
        open_engine(path, card),
        network.layout,
        network.divisors,
        threshold=card.threshold,
        stack_slices=card.stack_slices,
    )
    return segmenter, card


def grow(array: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Return the array, extended at its end with zeros to ``length``."""
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), np.float32)])
