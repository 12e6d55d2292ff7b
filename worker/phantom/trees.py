"""Branching vessels and airways that fill the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.phantom.shapes import Field, Point, Space, carve_tube, paint_tube

VESSEL_HU, WALL_HU, LUMEN_HU = 40.0, 10.0, -1000.0
LEAVES = 620
LEAF_RADIUS_MM = 0.75
MURRAY = 2.75
"""Exponent of Murray's law, as found in lungs: where vessels branch, the branches' powers of radii add up."""

TRACHEA: list[Point] = [(2, 4, 305), (1, 9, 240), (0, 15, 184)]
BRONCHI: list[tuple[list[Point], list[float]]] = [
    ([(0, 15, 184), (-22, 18, 168), (-38, 20, 158)], [7.5, 6.5, 5.5]),
    ([(-24, 18, 167), (-44, 14, 178), (-56, 8, 190)], [5, 4, 2.8]),
    ([(-38, 20, 158), (-46, 24, 138), (-54, 38, 112)], [5, 4.2, 2.6]),
    ([(-46, 22, 138), (-60, -4, 126), (-70, -28, 120)], [3.2, 2.6, 1.8]),
    ([(0, 15, 184), (24, 20, 164), (44, 22, 154)], [7, 6, 5]),
    ([(42, 22, 155), (56, 6, 164), (62, -14, 176)], [4.4, 3.6, 2.4]),
    ([(44, 22, 154), (52, 32, 132), (60, 44, 106)], [4.4, 3.8, 2.4]),
]
WALL_MM = 1.4

HILA: dict[str, tuple[Point, Point]] = {
    "left": ((42, 14, 162), (34, 12, 138)),
    "right": ((-40, 10, 160), (-36, 10, 138)),
}
"""Where arteries and veins enter each lung."""

TRUNKS: list[tuple[list[Point], list[float]]] = [
    ([(10, -12, 170), (-16, -4, 164), (-42, 10, 160)], [12, 10, 7]),
    ([(14, -16, 172), (30, 4, 172), (44, 14, 162)], [12, 10, 7]),
    ([(-10, 8, 134), (-36, 10, 138)], [8, 6]),
    ([(10, 8, 134), (36, 12, 138)], [8, 6]),
]


@dataclass(frozen=True)
class Tree:
    """Nodes (x, y, z) in mm; every node but the root, which is the first, has a parent that precedes it."""

    nodes: NDArray[np.float32]
    parents: NDArray[np.intp]
    radii_mm: NDArray[np.float32]


def carve_airways(field: Field, space: Space) -> None:
    """Remove trachea and bronchi from a lung's field, in place."""
    carve_tube(field, space, TRACHEA, [11, 11, 11])
    for points, radii in BRONCHI:
        carve_tube(field, space, points, [r + WALL_MM for r in radii])


def grow_tree(root: Point, targets: NDArray[np.float32]) -> Tree:
    """Connect every target to the tree, balancing a short connection against a short path from the root.

    Notes
    -----
    This balance of wiring and path length is that of Cuntz et al. 2010 ("One rule to grow them all").
    """
    order = np.linalg.norm(targets - np.asarray(root), axis=1).argsort()
    nodes = np.concatenate([np.asarray([root], np.float32), targets[order]])
    parents = np.zeros(len(nodes), np.intp)
    path_mm = np.zeros(len(nodes), np.float32)
    for i in range(1, len(nodes)):
        distance = np.linalg.norm(nodes[:i] - nodes[i], axis=1)
        parents[i] = (distance + 0.45 * path_mm[:i]).argmin()
        path_mm[i] = path_mm[parents[i]] + distance[parents[i]]
    powers = np.zeros(len(nodes), np.float64)
    for i in range(len(nodes) - 1, 0, -1):
        powers[i] = powers[i] or LEAF_RADIUS_MM**MURRAY
        powers[parents[i]] += powers[i]
    return Tree(nodes, parents, (powers ** (1 / MURRAY)).astype(np.float32))


def paint_vessels(hu: Field, space: Space, tree: Tree) -> None:
    """Paint a tree of vessels; those thinner than a voxel appear as faint as on a scanner."""
    for i in range(1, len(tree.nodes)):
        parent = tree.parents[i]
        start, end = _point(tree.nodes[parent]), _point(tree.nodes[i])
        first, last = float(min(tree.radii_mm[parent], 1.25 * tree.radii_mm[i])), float(tree.radii_mm[i])
        paint_tube(hu, space, [start, end], [first, last], VESSEL_HU, soft_mm=1.5)


def paint_airways(hu: Field, space: Space, trees: list[Tree]) -> None:
    """Paint trachea and bronchi, then small airways beside the arteries."""
    for points, radii in BRONCHI:
        paint_tube(hu, space, points, [r + WALL_MM for r in radii], WALL_HU)
    paint_tube(hu, space, TRACHEA, [10.4, 10.2, 9.6], WALL_HU)
    paint_tube(hu, space, TRACHEA, [8.8, 8.6, 8.0], LUMEN_HU)
    for points, radii in BRONCHI:
        paint_tube(hu, space, points, radii, LUMEN_HU)
    for tree in trees:
        for i in range(1, len(tree.nodes)):
            radius = float(tree.radii_mm[i])
            if radius > 1.3:
                beside = np.asarray([radius * 1.7, radius * 0.9, 0], np.float32)
                start, end = _point(tree.nodes[tree.parents[i]] + beside), _point(tree.nodes[i] + beside)
                paint_tube(hu, space, [start, end], [radius * 0.75 + 0.9] * 2, -200.0)
                paint_tube(hu, space, [start, end], [radius * 0.75] * 2, LUMEN_HU + 40)


def paint_trunks(hu: Field, space: Space) -> None:
    """Paint the large pulmonary vessels between heart and lungs."""
    for points, radii in TRUNKS:
        paint_tube(hu, space, points, radii, VESSEL_HU)


def _point(node: NDArray[np.float32]) -> Point:
    return float(node[0]), float(node[1]), float(node[2])
