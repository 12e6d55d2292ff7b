import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.prepare import augment
from training.prepare.augment import Augmentation
from training.prepare.examples import Example
from training.prepare.prepared import Prepared
from training.prepare.target import UNKNOWN


def batch(slices: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images with a bright rectangle away from the centre, and its labels."""
    images = torch.full((3, slices, 40, 48), 0.2)
    images[..., 8:16, 10:30] = 0.9
    return images, (images > 0.5).to(torch.uint8)


def apply(augmentation: Augmentation, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return augmentation(*batch(), torch.Generator().manual_seed(seed))


def test_no_augmentation_changes_nothing() -> None:
    images, labels = apply(augment.NONE)
    assert torch.equal(images, batch()[0])
    assert torch.equal(labels, batch()[1])


@pytest.mark.parametrize(
    ("augmentation", "axis"),
    [(Augmentation(flip_rows=1.0), 2), (Augmentation(flip_columns=1.0), 3)],
)
def test_a_flip_mirrors_image_and_labels(augmentation: Augmentation, axis: int) -> None:
    images, labels = apply(augmentation)
    assert torch.allclose(images, batch()[0].flip(axis), atol=1e-5)
    assert torch.equal(labels, batch()[1].flip(axis))


@pytest.mark.parametrize(
    "augmentation", [augment.SAOOD, augment.ALALWAN, augment.WU_CLASSIFIER, augment.STRONG], ids=str
)
def test_labels_move_with_the_image(augmentation: Augmentation) -> None:
    geometric = Augmentation(
        flip_rows=augmentation.flip_rows,
        flip_columns=augmentation.flip_columns,
        rotate_degrees=augmentation.rotate_degrees,
        shear_degrees=augmentation.shear_degrees,
        scale=augmentation.scale,
        shift=augmentation.shift,
    )
    images, labels = apply(geometric, seed=4)
    known = labels != UNKNOWN
    disagreeing = ((images > 0.55) != (labels == 1)) & known
    assert disagreeing.float().mean() < 0.01  # at edges, which are interpolated


def test_magnification_magnifies_by_its_factor() -> None:
    _, labels = apply(Augmentation(scale=(1.25, 1.25)))
    assert (labels == 1).sum() == pytest.approx(1.25**2 * batch()[1].sum().item(), rel=0.1)


def test_a_rotation_keeps_angles_and_areas_in_images_that_are_not_square() -> None:
    _, labels = apply(Augmentation(rotate_degrees=30), seed=2)
    areas = (labels == 1).sum(dim=(1, 2, 3)) / 2
    assert areas.tolist() == pytest.approx([160] * 3, rel=0.06)


def test_a_shear_is_by_its_angle_in_images_that_are_not_square() -> None:
    angles = [sheared_by(seed) for seed in range(200)]
    for along in zip(*angles, strict=True):
        assert 9 < max(along) <= 10
        assert -10 <= min(along) < -9


def sheared_by(seed: int, rows: int = 20, columns: int = 60) -> tuple[float, float]:
    """Return the angles in degrees by which straight rows and columns lean after a shear, for square pixels."""
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")).float()
    images = place[:, None] / 100
    labels = torch.zeros(2, 1, rows, columns, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    moved, _ = Augmentation(shear_degrees=10)(images[:1], labels[:1], generator)
    generator.manual_seed(seed)
    across, _ = Augmentation(shear_degrees=10)(images[1:], labels[1:], generator)
    middle = (slice(rows // 2 - 2, rows // 2 + 2), slice(columns // 2 - 2, columns // 2 + 2))
    down = float((moved[0, 0][middle].diff(dim=1)).mean()) * 100
    right = float((across[0, 0][middle].diff(dim=0)).mean()) * 100
    return math.degrees(math.atan(down)), math.degrees(math.atan(right))


def test_what_lay_outside_the_image_is_unknown() -> None:
    images, labels = apply(Augmentation(shift=0.3), seed=1)
    outside = labels == UNKNOWN
    assert outside.any()
    assert images[outside].mean() < 0.01  # half of a border pixel may still be seen


def test_slices_of_a_stack_are_moved_alike() -> None:
    images, labels = apply(Augmentation(rotate_degrees=20, scale=(0.7, 1.3), shift=0.1, gamma=0.5, contrast=0.3))
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(labels[:, 0], labels[:, 1])


def test_images_of_a_batch_are_moved_differently() -> None:
    images, _ = apply(Augmentation(rotate_degrees=20))
    assert not torch.allclose(images[0], images[1])


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": 0.5},
        {"contrast": 0.4},
        {"brightness": 0.2},
        {"noise": 0.1},
        {"blur_sigma": 1.5},
        {"coarse": 2.0},
        {"erase": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changes_of_gray_leave_labels_and_range(change: dict[str, float]) -> None:
    images, labels = apply(Augmentation(probability=1.0, **change))
    assert not torch.allclose(images, batch()[0], atol=1e-3)
    assert torch.equal(labels, batch()[1])
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_generator_decides() -> None:
    assert torch.equal(apply(augment.STRONG, seed=5)[0], apply(augment.STRONG, seed=5)[0])
    assert not torch.equal(apply(augment.STRONG, seed=5)[0], apply(augment.STRONG, seed=6)[0])


PASTING = Augmentation(paste=(2, 1), probability=1.0)


def lungs_one_with_a_lesion() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two images of lung (class 1) and their labels; the first image has a lesion (class 2)."""
    images, labels = torch.full((2, 1, 40, 48), 0.2), torch.zeros((2, 1, 40, 48), dtype=torch.uint8)
    labels[:, :, 5:35, 5:43] = 1
    images[0, :, 10:20, 15:25], labels[0, :, 10:20, 15:25] = 0.9, 2
    return images, labels


def pasted() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the batches in which the lesion was pasted into the other image's lung."""
    batches = [PASTING(*lungs_one_with_a_lesion(), torch.Generator().manual_seed(seed)) for seed in range(40)]
    return [(images, labels) for images, labels in batches if (labels[1] == 2).sum() > 50]


def test_a_lesion_is_pasted_into_the_lung_of_another_image_alone() -> None:
    _, before = lungs_one_with_a_lesion()
    for images, labels in pasted():
        assert torch.equal(labels[0], before[0])
        assert (before[1][labels[1] == 2] == 1).all()
        assert images[1][labels[1] == 2].mean() > 0.4
        assert images[1][:, :3].max() < 0.3  # far from the lung


def test_a_pasted_lesion_lies_anywhere_in_the_lung() -> None:
    rows, columns = zip(
        *((labels[1, 0] == 2).nonzero().float().mean(0).tolist() for _, labels in pasted()), strict=True
    )
    assert max(rows) - min(rows) > 12
    assert max(columns) - min(columns) > 15


def test_pasted_lesions_are_as_dense_as_the_others_or_fainter() -> None:
    densest = [images[1].max().item() for images, _ in pasted()]
    assert max(densest) <= 0.9
    assert min(densest) >= 0.2 + augment.FAINTEST * 0.7 - 0.05
    assert max(densest) - min(densest) > 0.1


def scan_of(slice_mm: float | None) -> Example:
    pixels = np.zeros((20, 1, 1))
    scan = Prepared("s", "s", None, "s", 0, pixels.astype(np.float16), pixels.astype(np.uint8), 1.0, slice_mm)
    return Example("s", [(scan, z) for z in range(20)], 0, 1)


def thicknesses(slice_mm: float | None) -> list[int]:
    augmentation = Augmentation(thickest_mm=10.0, probability=0.8)
    generator = torch.Generator().manual_seed(0)
    return [augmentation.thicken(scan_of(slice_mm), generator).thickness for _ in range(300)]


def test_slices_get_as_thick_as_is_allowed_and_thin_ones_are_likelier() -> None:
    drawn = thicknesses(2.0)
    assert set(drawn) == {1, 2, 3, 4, 5}
    assert drawn.count(1) > drawn.count(2) > drawn.count(5)


@pytest.mark.parametrize("slice_mm", [12.0, None])
def test_slices_that_are_thick_already_or_of_unknown_distance_stay(slice_mm: float | None) -> None:
    assert set(thicknesses(slice_mm)) == {1}


def test_without_a_thickness_nothing_is_drawn() -> None:
    generator, unused = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    assert augment.STRONG.thicken(scan_of(1.0), generator).thickness == 1
    assert torch.equal(generator.get_state(), unused.get_state())


@pytest.mark.parametrize(
    "augmentation",
    [augment.SAOOD, augment.ALALWAN, augment.WU_CLASSIFIER, replace(augment.STRONG, paste=(1, 0))],
    ids=["saood", "alalwan", "wu-classifier", "strong"],
)
def test_a_batch_on_another_device_stays_there(augmentation: Augmentation) -> None:
    """As on a GPU, an operation on tensors of two devices is an error; torch's device "meta" needs no hardware."""
    images, labels = (tensor.to("meta") for tensor in batch())
    changed = augmentation(images, labels, torch.Generator().manual_seed(0))
    assert [(t.device.type, t.shape, t.dtype) for t in changed] == [
        ("meta", images.shape, torch.float32),
        ("meta", images.shape, torch.uint8),
    ]
