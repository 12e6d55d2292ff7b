from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import arrays

from worker.geometry import Geometry
from worker.grid import Grid, bounding_box, filled, with_enclosed

MASKS = arrays(np.bool_, (4, 9, 8))


def axial(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing
    affine[3, 3] = 1
    return Geometry(shape, affine, "1")


def test_blocks_come_near_the_size_asked_for_and_are_never_finer_than_voxels() -> None:
    grid = Grid.about(1.6, axial((10, 20, 20), (5.0, 0.7, 0.4)))
    assert grid.strides == (1, 2, 4)
    assert grid.spacing_mm == (5.0, 1.4, 1.6)


def test_shrinking_averages_whole_blocks() -> None:
    hu = np.arange(5 * 7, dtype=np.int16).reshape(1, 5, 7)
    blocks = Grid((1, 2, 3), (1, 2, 3)).shrink(hu)
    assert blocks.shape == (1, 2, 2)
    assert blocks[0, 1, 0] == np.mean([14, 15, 16, 21, 22, 23]).astype(int)


def test_expanding_repeats_blocks_over_the_remainder() -> None:
    blocks = np.array([[[1, 2]]], np.uint8)
    np.testing.assert_array_equal(Grid((1, 2, 3), (1, 2, 3)).expand(blocks, (1, 3, 7))[0, 2], [1, 1, 1, 2, 2, 2, 2])


def test_a_share_is_that_of_the_voxels_of_a_whole_block() -> None:
    mask = np.zeros((1, 5, 7), np.bool_)
    mask[0, :2, :3] = True
    mask[0, 4], mask[0, 3, 5] = True, True  # the last row is in no block
    np.testing.assert_array_equal(Grid((1, 2, 3), (1, 2, 3)).share(mask)[0], np.float32([[1, 0], [0, 1 / 6]]))


@given(arrays(np.uint8, (2, 4, 2)).filter(lambda blocks: blocks.any()))
def test_expanding_a_box_of_blocks_gives_the_voxels_of_the_box(blocks: np.ndarray) -> None:
    grid, shape = Grid((1, 2, 3), (1, 2, 3)), (2, 9, 8)
    box = bounding_box(blocks)
    at = grid.voxels(box, shape)
    expanded = np.zeros(shape, np.uint8)
    expanded[at] = grid.expand(blocks[box], expanded[at].shape)
    np.testing.assert_array_equal(expanded, grid.expand(blocks, shape))


@given(MASKS)
def test_filling_leaves_only_what_reaches_the_edge_of_its_slice(mask: np.ndarray) -> None:
    result = filled(mask)
    assert (result | ~mask).all()
    for before, after in zip(mask, result, strict=True):
        reached = np.zeros_like(before)
        todo = [(y, x) for y, x in np.ndindex(*before.shape) if (y in (0, 8) or x in (0, 7)) and not before[y, x]]
        while todo:
            y, x = todo.pop()
            if 0 <= y < 9 and 0 <= x < 8 and not before[y, x] and not reached[y, x]:
                reached[y, x] = True
                todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        np.testing.assert_array_equal(after, ~reached)


@given(MASKS.filter(lambda mask: mask.any()))
def test_the_bounding_box_holds_all_and_no_less(mask: np.ndarray) -> None:
    box = bounding_box(mask)
    assert mask[box].sum() == mask.sum()
    for axis in range(3):
        assert mask[box].take(0, axis).any()
        assert mask[box].take(-1, axis).any()


def test_a_margin_ends_where_the_array_does() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 4, 3] = True
    assert bounding_box(mask, margin=(2, 3, 1)) == (slice(0, 4), slice(1, 6), slice(2, 5))


def test_morphology_is_measured_in_millimetres() -> None:
    mask = np.zeros((9, 21, 21), bool)
    mask[4, 10, 10] = True
    grown = Grid((1, 1, 1), (3.0, 1.0, 1.0)).dilated(mask, 6.0)
    assert [int(np.ptp(places)) for places in np.nonzero(grown)] == [4, 12, 12]


def test_eroding_takes_one_block_at_least() -> None:
    mask = np.zeros((7, 7, 7), bool)
    mask[2:5, 2:5, 2:5] = True
    eroded = Grid((1, 1, 1), (10.0, 10.0, 10.0)).eroded(mask, 1.0)
    assert np.argwhere(eroded).tolist() == [[3, 3, 3]]


def test_components_are_ordered_by_size_and_small_ones_dropped() -> None:
    mask = np.zeros((3, 10, 10), bool)
    mask[0, 0, :2], mask[1, 5, :6], mask[2, 9, 9] = True, True, True
    labels = Grid((1, 1, 1), (10.0, 10.0, 10.0)).components(mask, smallest_ml=2.0)
    assert (labels[1, 5, :6] == 1).all()
    assert (labels[0, 0, :2] == 2).all()
    assert labels[2, 9, 9] == 0


def test_an_empty_grid_has_no_components() -> None:
    """SimpleITK would crash the process on it."""
    assert Grid((1, 1, 1), (10.0, 10.0, 10.0)).components(np.zeros((0, 10, 10), bool)).shape == (0, 10, 10)


@given(MASKS)
def test_what_is_enclosed_on_all_sides_is_enclosed_in_its_slice_too(mask: np.ndarray) -> None:
    result = with_enclosed(mask)
    assert not (mask & ~result).any()
    assert not (result & ~filled(mask)).any()
    assert np.array_equal(with_enclosed(result), result)


def test_a_hole_that_opens_to_the_next_slice_is_not_enclosed() -> None:
    mask = np.ones((4, 5, 5), np.bool_)
    mask[1, 2, 2] = False
    assert with_enclosed(mask).all()
    mask[0, 2, 2] = False
    assert not with_enclosed(mask)[:2, 2, 2].any()
