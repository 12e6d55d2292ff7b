"""Both lungs by threshold and connected components."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from worker.findings import LEFT, RIGHT, Lungs
from worker.grid import Bools, Grid, bounding_box, filled
from worker.volume import Volume

BLOCK_MM = 1.6

LUNG_HU = -200
"""Wu et al. 2020: the threshold whose mask agrees best with the lungs."""

TISSUE_HU = -500
"""Threshold for the body's surface, low enough to keep it closed where the chest wall is thinner than a block."""

CORE_HU = -400
"""What is below is surely aerated: low enough that partial volume does not join the lungs with bowel or skin."""

GAS_HU = -960
"""Free gas in stomach or bowel is below this; so is emphysema in places, but not the mean of any lung."""

GAS_WALL_MM, AROUND_GAS_MM = 5.0, 9.0
"""The blurred edge of gas and the wall around it end at the first distance; its surroundings reach to the second."""

LUNG_AROUND = 1 / 3
"""Gas with a larger share of aerated lung around it is a bulla: simulated ones have 0.44 or more, bowel gas 0.25."""

AIRWAY_WALL_MM = 2.0

CLOSING_MM = 9.0
"""Radius of the closing that takes in lesions at the pleura and vessels of the hilum narrower than twice this."""

SMALLEST_PART_ML = 50.0

LARGEST_AIRWAYS_ML = 90.0
"""If the airways are grown to a larger volume, they have leaked into the lung."""


def segment_lungs(volume: Volume) -> Lungs:
    """Segment left and right lung by threshold, on a grid of about 1.6 mm.

    Air within the body, without trachea, main bronchi and gas of stomach and bowel, is divided into left and
    right; each lung is closed by a ball of 9 mm and its holes are filled, so that vessels and most lesions,
    also at the pleura, are included. All labels are 0 if no lung is found.

    Notes
    -----
    The threshold is Wu et al.'s (2020). Large consolidation that reaches the pleura, effusion and a collapsed
    lobe are denser than any lung threshold and are lost from both the lung and the infection: the percentage
    then comes out too low.
    """
    geometry = volume.geometry
    labels = np.zeros(volume.hu.shape, np.uint8)
    hu, result = geometry.anatomical(volume.hu), geometry.anatomical(labels)
    grid = Grid.about(BLOCK_MM, geometry)
    coarse = grid.shrink(hu)
    body = body_of(grid, coarse)
    if body.any():
        box = bounding_box(body)
        blocks = np.zeros(coarse.shape, np.uint8)
        blocks[box] = _label_lungs(grid, coarse[box], body[box])
        if blocks.any():
            box = bounding_box(blocks)
            at = grid.voxels(box, hu.shape)
            result[at] = grid.expand(blocks[box], result[at].shape)
    return Lungs(labels, geometry)


def body_of(grid: Grid, hu: NDArray[np.int16]) -> Bools:
    """Return the blocks of the body: the largest component of tissue, with its holes filled slice by slice."""
    tissue = hu > TISSUE_HU
    return filled(grid.components(tissue) == 1) if tissue.any() else tissue


def _label_lungs(grid: Grid, hu: NDArray[np.int16], body: Bools) -> NDArray[np.uint8]:
    """Return the label of every block; the arrays are cropped to the body."""
    smooth = grid.smoothed(np.where(body, hu, 0), 1.2)
    airways = grid.dilated(_airways(grid, smooth, body), AIRWAY_WALL_MM)
    aerated = grid.opened(body & (hu < CORE_HU) & ~airways & ~bowel_gas(grid, smooth, body), 1.5)
    labels = np.zeros(hu.shape, np.uint8)
    for value, core in zip((LEFT, RIGHT), _sides(grid, aerated, hu, body), strict=True):
        if core.any():
            lung = grid.dilated(core, 3.0) & (hu < LUNG_HU)
            lung = filled(grid.closed(lung, CLOSING_MM))
            labels[lung & body & ~airways & (labels == 0)] = value
    return labels


def _airways(grid: Grid, smooth: NDArray[np.float32], body: Bools) -> Bools:
    """Grow trachea and main bronchi from the trachea's top, at the highest threshold that does not leak."""
    seed = _trachea(grid, smooth, body)
    airways = np.zeros_like(body)
    if seed is None:
        return airways
    previous_ml = 0.0
    for threshold in range(-980, -790, 20):
        grown = grid.connected_to(seed, body & (smooth < threshold))
        grown_ml = np.count_nonzero(grown) * grid.block_ml
        if grown_ml > LARGEST_AIRWAYS_ML or (previous_ml > 10 and grown_ml > 1.5 * previous_ml):
            break
        airways, previous_ml = grown, grown_ml
    return airways


def _trachea(grid: Grid, smooth: NDArray[np.float32], body: Bools) -> tuple[int, int, int] | None:
    """Return a block in the trachea, from the highest round patch of air near the midline; None if there is none."""
    depth_mm, row_mm, column_mm = grid.spacing_mm
    shapes = sitk.LabelShapeStatisticsImageFilter()
    for z in range(len(body) - 1 - round(6 / depth_mm), len(body) // 3, -1):
        patches = sitk.GetImageFromArray((body[z] & (smooth[z] < -800)).astype(np.uint8))
        patches.SetSpacing((column_mm, row_mm))
        labelled = sitk.ConnectedComponent(patches)
        shapes.Execute(labelled)
        if not shapes.GetLabels():
            continue
        middle_mm = np.flatnonzero(body[z].any(axis=0)).mean() * column_mm
        for label in shapes.GetLabels():
            is_near_midline = abs(shapes.GetCentroid(label)[0] - middle_mm) < 35
            is_sized = 50 < shapes.GetPhysicalSize(label) < 600
            if is_near_midline and is_sized and shapes.GetElongation(label) < 2.2:
                patch = sitk.GetArrayViewFromImage(labelled) == label
                y, x = np.unravel_index(np.where(patch, smooth[z], np.inf).argmin(), patch.shape)
                return z, int(y), int(x)
    return None


def bowel_gas(grid: Grid, smooth: NDArray[np.float32], body: Bools) -> Bools:
    """Return free gas of stomach or colon in the lower third of the scan, with the wall around it.

    A bulla or confluent emphysema has HU as low, but more than a third of its surroundings is aerated lung, so it is
    not taken for such gas.
    """
    gas = np.zeros_like(body)
    lowest = slice(0, len(body) // 3)
    components = grid.components(body[lowest] & (smooth[lowest] < GAS_HU), smallest_ml=5.0)
    for label in range(1, int(components.max(initial=0)) + 1):
        component = np.zeros_like(body)
        component[lowest] = components == label
        if not _is_within_lung(grid, smooth, component):
            gas |= component
    return grid.dilated(gas, GAS_WALL_MM)


def _is_within_lung(grid: Grid, smooth: NDArray[np.float32], gas: Bools) -> bool:
    """Whether enough of the surroundings of gas, outside the wall that it may have, is aerated lung."""
    margin = tuple(math.ceil(AROUND_GAS_MM / mm) for mm in grid.spacing_mm)
    box = bounding_box(gas, margin)
    around = grid.dilated(gas[box], AROUND_GAS_MM) & ~grid.dilated(gas[box], GAS_WALL_MM) & (smooth[box] >= GAS_HU)
    return bool(np.count_nonzero(around & (smooth[box] < CORE_HU)) > LUNG_AROUND * np.count_nonzero(around))


def _sides(grid: Grid, aerated: Bools, hu: NDArray[np.int16], body: Bools) -> tuple[Bools, Bools]:
    """Return the aerated left and right lung, each on its side of the body's middle column."""
    left, right = np.zeros_like(aerated), np.zeros_like(aerated)
    if not aerated.any():
        return left, right
    box = bounding_box(aerated)
    middle = float(np.flatnonzero(body.any(axis=(0, 1))).mean()) - box[2].start
    for side, own in zip((left, right), divide(grid, aerated[box], middle), strict=True):
        largest = max((np.count_nonzero(part) for part in own), default=0)
        for part in own:
            is_lung = hu[box][part].mean() > GAS_HU and np.count_nonzero(part) > 0.25 * largest
            side[box] |= part & is_lung
    return left, right


def divide(grid: Grid, lungs: Bools, middle: float) -> tuple[list[Bools], list[Bools]]:
    """Return the parts of the left lung and of the right one, divided at the column ``middle``; specks are dropped."""
    labels = grid.components(lungs, SMALLEST_PART_ML)
    parts = [labels == label for label in range(1, int(labels.max()) + 1)]
    parts = [half for part in parts for half in _halves(grid, part, middle)]
    left = [_left_share(part, middle) > 0.5 for part in parts]
    return (
        [part for part, is_left in zip(parts, left, strict=True) if is_left],
        [part for part, is_left in zip(parts, left, strict=True) if not is_left],
    )


def _halves(grid: Grid, part: Bools, middle: float) -> list[Bools]:
    """Split lungs that touch: the part is eroded until it comes apart in two, then each block goes to the nearer one.

    A part that lies almost wholly on one side, or does not come apart, stays whole.
    """
    if not 0.15 < _left_share(part, middle) < 0.85:
        return [part]
    depth_mm = grid.depth_mm(part)
    for threshold_mm in range(2, 20, 2):
        cores = grid.components(depth_mm > threshold_mm)
        sizes = np.bincount(cores.ravel(), minlength=3)
        if sizes[2] > 0.2 * sizes[1]:
            is_nearer_first = grid.depth_mm(cores == 1) > grid.depth_mm(cores == 2)
            return [part & is_nearer_first, part & ~is_nearer_first]
    return [part]


def _left_share(part: Bools, middle: float) -> float:
    """Return the share of a part that lies in columns beyond the middle: on the patient's left."""
    columns = np.count_nonzero(part, axis=(0, 1))
    return float(columns[max(0, math.ceil(middle)) :].sum() / columns.sum())
