import numpy as np
import torch

from training.prepare.patches import SIZE, PatchMap, cut_patch, find_patches


def test_every_connected_region_of_a_slice_is_a_candidate() -> None:
    predicted = np.zeros((2, 20, 20), np.bool_)
    predicted[0, 2:5, 2:5] = predicted[0, 10:14, 10:12] = predicted[1, 3, 3] = True
    true = np.zeros_like(predicted)
    true[0, 2:5, 2:5] = True
    found = find_patches(np.zeros((2, 20, 20), np.float16), predicted, true)
    assert [(c.slice_index, int(c.region.sum()), c.is_infection) for c in found] == [
        (0, 9, True),
        (0, 8, False),
        (1, 1, False),
    ]


def test_the_patch_is_the_smallest_square_around_the_region() -> None:
    plane = np.zeros((40, 40), np.float16)
    region = np.zeros((40, 40), np.bool_)
    region[10:20, 14:18] = True
    plane[10:20, 11:21] = 1  # the square: ten rows, and ten columns with the region's centre
    patch = cut_patch(plane, region)
    assert patch.shape == (SIZE, SIZE)
    assert (patch > 0.99).all()


def test_a_square_that_leaves_the_image_is_black_there() -> None:
    region = np.zeros((40, 40), np.bool_)
    region[5:25, 0:4] = True
    patch = cut_patch(np.ones((40, 40), np.float16), region)
    assert (patch[:, -10:] > 0.99).all()
    assert not patch[:, :10].any()


def test_the_classifier_answers_alike_at_every_pixel() -> None:
    network = PatchMap().eval()
    logits = network(torch.rand(2, 1, SIZE, SIZE))
    assert logits.shape == (2, 1, SIZE, SIZE)
    assert torch.equal(logits, logits[..., :1, :1].expand_as(logits))
