"""Losses on logits, which ignore unknown pixels; a new loss is one function and one line in ``LOSSES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from monai.losses.dice import DiceLoss
from monai.losses.tversky import TverskyLoss
from torch import Tensor
from torch.nn import functional

from dicom_node.errors import SettingsError
from training.prepare.target import UNKNOWN

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps logits, float (n, classes, ...), and labels, uint8 (n, ...), to a scalar."""


def build_loss(name: str, class_weights: Sequence[float] | None = None, **arguments: float) -> Loss:
    """Return a loss by its name.

    Parameters
    ----------
    name : str
        A key of ``LOSSES``.
    class_weights : sequence of float or None
        One per class, the background first; for losses that weight classes.

    Raises
    ------
    SettingsError
        When no loss has that name.
    """
    if name not in LOSSES:
        raise SettingsError("unknown-loss", f"no loss {name!r}; known are {', '.join(LOSSES)}")
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
    return partial(LOSSES[name], class_weights=weights, **arguments)


def cross_entropy(logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Return the weighted cross-entropy, a mean over the known pixels.

    Saood & Hatem 2021, eq. 1; Alalwan et al. 2021, eq. 2. The sum is divided by the number of pixels, not by
    the sum of their weights.
    """
    known = labels != UNKNOWN
    weights = None if class_weights is None else class_weights.to(logits.device)
    per_pixel = functional.cross_entropy(
        two_or_more(logits), labels.long(), weight=weights, ignore_index=UNKNOWN, reduction="none"
    )
    return per_pixel.sum() / known.sum().clamp(min=1)


def balanced_cross_entropy(logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Return the cross-entropy, a mean over the known pixels of the batch weighted by their class.

    The sum is divided by the sum of the pixels' weights. So a batch with few lesions counts as much as one with many,
    false positives included. MATLAB's ``pixelClassificationLayer``, with which Saood & Hatem 2021 trained, does this;
    their eq. 1 does not.
    """
    if class_weights is None:
        return cross_entropy(logits, labels)
    weights = class_weights.to(logits.device)
    known = labels != UNKNOWN
    mean_weight = weights[labels[known].long()].sum() / known.sum().clamp(min=1)
    return cross_entropy(logits, labels, class_weights=weights) / mean_weight.clamp(min=weights.min())


def dice(logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Return one minus the soft Dice of the foreground classes, over the whole batch.

    Milletari et al. 2016 without the squares in the denominator, and with numerator and denominator summed over the
    batch, so that slices without a finding do not count as failures. Shivdeo et al. 2021 say only "dice loss".
    """
    predicted, wanted = foreground(logits, labels)
    return DiceLoss(batch=True)(predicted, wanted)  # type: ignore[no-any-return]  # monai is not typed


def dice_cross_entropy(logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Return the sum of ``dice`` and ``cross_entropy``."""
    return dice(logits, labels) + cross_entropy(logits, labels, class_weights=class_weights)


def focal_tversky(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    false_positives: float = 0.3,
    false_negatives: float = 0.7,
    gamma: float = 0.75,
) -> Tensor:
    """Return (1 - Tversky index) ** gamma, a mean over the foreground classes.

    Abraham & Khan 2019, eq. 4, whose gamma is the inverse of this one.
    """
    predicted, wanted = foreground(logits, labels)
    tversky = TverskyLoss(alpha=false_positives, beta=false_negatives, batch=True, reduction="none")
    return (tversky(predicted, wanted).clamp(min=1e-6) ** gamma).mean()  # type: ignore[no-any-return]  # monai is not typed


def two_or_more(logits: Tensor) -> Tensor:
    """Return logits with a channel for the background, which a network of one class leaves out."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def probabilities(logits: Tensor) -> Tensor:
    """Return probabilities, the background first, (n, 2 or more, ...)."""
    return two_or_more(logits.float()).softmax(dim=1)


def foreground(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return predicted probabilities and true masks of the foreground, (n, classes, ...), zero where unknown."""
    predicted = probabilities(logits)
    known = (labels != UNKNOWN)[:, None]
    wanted = torch.stack([labels == c for c in range(1, predicted.shape[1])], dim=1)
    return predicted[:, 1:] * known, wanted.float()


def median_frequency_weights(labels: Sequence[Tensor], classes: int) -> list[float]:
    """Return the weight of each class: the median of all classes' frequencies divided by its own.

    The frequency of a class is its pixels over the pixels of the images that show it (Saood & Hatem 2021,
    "Network training"; Eigen & Fergus 2015, section 6.3.2).

    Parameters
    ----------
    labels : sequence of Tensor
        One label map per image.
    classes : int
        Number of classes, including the background.

    Raises
    ------
    SettingsError
        When no image shows a class.
    """
    pixels = torch.zeros(classes, dtype=torch.float64)
    pixels_of_images = torch.zeros(classes, dtype=torch.float64)
    for image in labels:
        counts = torch.bincount(image.flatten().int(), minlength=256)[:classes].double()
        pixels += counts
        pixels_of_images += (counts > 0) * counts.sum()
    if not bool((pixels > 0).all()):
        raise SettingsError("class-never-seen", f"pixels by class are {pixels.int().tolist()}; none may be 0")
    frequencies = pixels / pixels_of_images
    return [float(weight) for weight in frequencies.quantile(0.5) / frequencies]


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "balanced_cross_entropy": balanced_cross_entropy,
    "cross_entropy": cross_entropy,
    "dice": dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal_tversky": focal_tversky,
}
