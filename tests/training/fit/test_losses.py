import numpy as np
import pytest
import torch
from monai.losses.dice import DiceLoss
from torch.nn import functional

from dicom_node.errors import SettingsError
from training.fit.losses import LOSSES, build_loss, median_frequency_weights, probabilities
from training.prepare.target import UNKNOWN

CLASSES = 3


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, CLASSES, 1, 6, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(0, CLASSES, (2, 1, 6, 7), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_pixels_change_nothing(name: str, logits: torch.Tensor, labels: torch.Tensor) -> None:
    loss = build_loss(name, [0.5, 1.0, 2.0])
    labels[..., 3:] = UNKNOWN
    before = loss(logits, labels)
    before.backward()
    assert logits.grad is not None
    assert not logits.grad[..., 3:].any()
    changed = logits.detach().clone()
    changed[..., 3:] += 5
    assert loss(changed, labels) == pytest.approx(before.item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_costs_less_than_a_wrong_one(name: str, labels: torch.Tensor) -> None:
    loss = build_loss(name)
    right = functional.one_hot(labels.long(), CLASSES).movedim(-1, 1) * 20.0
    assert loss(right, labels) < 0.05
    assert loss(right.roll(1, dims=1), labels) > 0.5


@pytest.mark.parametrize("name", LOSSES)
def test_one_logit_is_the_same_as_two_with_a_background_of_zero(name: str, labels: torch.Tensor) -> None:
    foreground = torch.randn(2, 1, 1, 6, 7, generator=torch.Generator().manual_seed(2))
    both = torch.cat([torch.zeros_like(foreground), foreground], dim=1)
    binary = (labels > 0).to(torch.uint8)
    loss = build_loss(name)
    assert loss(foreground, binary) == pytest.approx(loss(both, binary).item())
    assert torch.allclose(probabilities(foreground)[:, 1:], foreground.sigmoid())


def test_cross_entropy_is_a_mean_over_pixels_of_weighted_terms(logits: torch.Tensor, labels: torch.Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0])
    ours = build_loss("cross_entropy", weights.tolist())(logits, labels)
    terms = -logits.log_softmax(1).gather(1, labels.long()[:, None])[:, 0] * weights[labels.long()]
    assert ours.item() == pytest.approx(terms.mean().item(), rel=1e-6)


def test_balanced_cross_entropy_is_torchs_own_weighted_mean(logits: torch.Tensor, labels: torch.Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0])
    theirs = functional.cross_entropy(logits, labels.long(), weight=weights)
    assert build_loss("balanced_cross_entropy", weights.tolist())(logits, labels).item() == pytest.approx(theirs.item())


def test_a_batch_without_lesions_counts_as_much_as_one_with_them(logits: torch.Tensor) -> None:
    background = torch.zeros(2, 1, 6, 7, dtype=torch.uint8)
    plain = build_loss("cross_entropy")(logits, background)
    balanced = build_loss("balanced_cross_entropy", [0.5, 1.0, 7.0])(logits, background)
    assert balanced.item() == pytest.approx(plain.item())


def test_dice_is_monais_where_everything_is_known(logits: torch.Tensor, labels: torch.Tensor) -> None:
    theirs = DiceLoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    assert build_loss("dice")(logits, labels).item() == pytest.approx(theirs(logits, labels[:, None]).item())


def test_the_sum_of_dice_and_cross_entropy_is_their_sum(logits: torch.Tensor, labels: torch.Tensor) -> None:
    parts = [build_loss(name)(logits, labels).item() for name in ("dice", "cross_entropy")]
    assert build_loss("dice_cross_entropy")(logits, labels).item() == pytest.approx(sum(parts))


def test_focal_tversky_punishes_what_is_missed_more_than_what_is_too_much() -> None:
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    labels[..., :2] = 1
    missed, too_much = (torch.full((1, 1, 1, 4, 4), -20.0) for _ in range(2))
    missed[..., 0] = 20
    too_much[..., :3] = 20
    loss = build_loss("focal_tversky")
    assert loss(missed, labels) > loss(too_much, labels)


def test_focal_tversky_is_that_of_its_equation() -> None:
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    labels[..., :2] = 1
    halfway = torch.zeros(1, 1, 1, 4, 4)  # a probability of 0.5 everywhere: of 8 infected pixels, 4 are found
    index = 4 / (4 + 0.3 * 4 + 0.7 * 4)
    assert build_loss("focal_tversky")(halfway, labels).item() == pytest.approx((1 - index) ** 0.75, rel=1e-4)


def test_a_class_is_weighted_by_its_share_of_the_images_that_show_it() -> None:
    images = [torch.tensor([0] * 90 + [1] * 10), torch.tensor([0] * 95 + [2] * 5), torch.tensor([0] * 100)]
    frequencies = np.array([285 / 300, 10 / 100, 5 / 100])
    expected = np.median(frequencies) / frequencies
    assert median_frequency_weights([i.to(torch.uint8) for i in images], 3) == pytest.approx(expected)


def test_a_class_that_nobody_has_cannot_be_weighted() -> None:
    with pytest.raises(SettingsError, match="none may be 0"):
        median_frequency_weights([torch.zeros(4, dtype=torch.uint8)], 2)


def test_an_unknown_loss_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="no loss 'hinge'"):
        build_loss("hinge")
