from itertools import product

import pytest
import torch

from training.prepare.opacities import CONTRAST, Opacities
from training.prepare.target import UNKNOWN

LUNG, INFECTED = 1, 2
ALWAYS = Opacities(INFECTED, LUNG, probability=1.0, most=1)


def chests(count: int = 20, slices: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of two dark lungs in gray tissue, one of them with a bright vessel, and their labels."""
    images = torch.full((count, slices, 64, 80), 0.68)
    labels = torch.zeros(images.shape, dtype=torch.uint8)
    for columns in (slice(8, 36), slice(44, 72)):
        images[..., 8:56, columns], labels[..., 8:56, columns] = 0.2, LUNG
    images[..., 30:32, 8:36] = 0.65
    return images, labels


def grown(opacities: Opacities = ALWAYS, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return opacities(*chests(), torch.Generator().manual_seed(seed))


def test_opacities_grow_in_lung_alone() -> None:
    before, lung = chests()
    images, labels = grown()
    assert (labels == INFECTED).any(dim=(1, 2, 3))[:, ...].float().mean() > 0.9
    assert not (labels == INFECTED)[lung == 0].any()
    assert torch.equal(images[lung == 0], before[lung == 0])


def test_they_are_brighter_than_lung_and_not_brighter_than_drawn() -> None:
    before, _ = chests()
    images, labels = grown()
    rise = (images - before)[labels == INFECTED]
    assert (rise >= 0).all()
    assert CONTRAST[0] / 4 < rise.mean() < CONTRAST[1]


def test_vessels_stay_visible_within_ground_glass() -> None:
    images, _ = grown()
    vessel, beside = images[..., 31, 8:36], images[..., 34, 8:36]
    assert (vessel > beside).float().mean() > 0.95


def test_they_grow_anywhere_in_lung() -> None:
    _, labels = ALWAYS(*chests(200, 1), torch.Generator().manual_seed(1))
    share = (labels == INFECTED).float().mean(dim=(0, 1))
    rows, columns = (slice(8, 32), slice(32, 56)), (slice(8, 36), slice(44, 72))
    quarters = [share[quarter].mean() for quarter in product(rows, columns)]
    assert min(quarters) > 0.5 * max(quarters)


def test_slices_of_a_stack_are_drawn_into_alike() -> None:
    images, labels = grown()
    assert torch.equal(labels[:, 0], labels[:, 1])
    assert torch.allclose(images[:, 0], images[:, 1])


def test_what_is_unknown_stays_unknown() -> None:
    images, labels = chests()
    labels[..., 8:56, 8:36] = UNKNOWN
    _, found = ALWAYS(images, labels, torch.Generator().manual_seed(0))
    assert torch.equal(found == UNKNOWN, labels == UNKNOWN)


@pytest.mark.parametrize("opacities", [Opacities(INFECTED, LUNG, probability=0.0), Opacities(INFECTED, lung=7)])
def test_without_a_draw_or_without_lung_nothing_changes(opacities: Opacities) -> None:
    images, labels = grown(opacities)
    assert torch.equal(images, chests()[0])
    assert torch.equal(labels, chests()[1])


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(grown(seed=5)[0], grown(seed=5)[0])
    assert not torch.equal(grown(seed=5)[0], grown(seed=6)[0])
