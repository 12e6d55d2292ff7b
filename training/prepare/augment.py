"""Random changes to training images: thicker slices first, then in-plane changes on the device that holds the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from training.prepare.examples import Example
from training.prepare.opacities import Opacities
from training.prepare.target import UNKNOWN

FAINTEST = 0.5
"""Lowest opacity of pasted pixels."""


@dataclass(frozen=True)
class Augmentation:
    """How far images are changed; by default not at all. All slices of a stack are changed alike.

    Parameters
    ----------
    paste : tuple of int, or None
        (pasted class, class to paste onto): pixels of the first class, from another image of the batch, cover pixels
        of the second, as lesions placed in healthy lung; some are made fainter.
    grow : Opacities, or None
        Synthetic opacities to draw into lung.
    flip_rows, flip_columns : float
        Probability of a mirror image along that axis.
    rotate_degrees, shear_degrees : float
        Drawn between minus and plus this; shear is drawn separately along rows and columns.
    scale : tuple of float
        Range of the magnification.
    shift : float
        Share of the image's side, drawn between minus and plus this.
    probability : float
        Probability of pasting, and of each of the changes below.
    thickest_mm : float
        Each slice becomes the mean of several, together at most this thick, if the scan's slice spacing is known.
    gamma : float
        Exponent drawn log-uniformly from 1 / (1 + gamma) to 1 + gamma.
    contrast, brightness : float
        The gray scale's slope is drawn from 1 +- contrast, its offset from +- brightness: as in another window.
    noise : float
        Largest standard deviation of Gaussian noise, in gray of [0, 1].
    blur_sigma : float
        Largest sigma in pixels of a Gaussian; half of the time the image is sharpened by it instead, as a
        sharp kernel would.
    coarse : float
        In-plane resolution is reduced by a factor of at most 1 + coarse.
    erase : float
        Largest side, as a share of the image's, of a rectangle painted with one gray value.
    """

    paste: tuple[int, int] | None = None
    grow: Opacities | None = None
    flip_rows: float = 0.0
    flip_columns: float = 0.0
    rotate_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    probability: float = 0.5
    thickest_mm: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    blur_sigma: float = 0.0
    coarse: float = 0.0
    erase: float = 0.0

    def thicken(self, example: Example, generator: torch.Generator) -> Example:
        """Return an example unchanged, or with slices that are each the mean of several; thin ones are likelier."""
        if not self.thickest_mm or example.slice_mm is None:
            return example
        happens, share = torch.rand(2, generator=generator).tolist()
        most = max(1, int(self.thickest_mm / example.slice_mm))
        return replace(example, thickness=1 + int(share**2 * most)) if happens < self.probability else example

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Parameters
        ----------
        images : Tensor of float, shape (n, slices, rows, columns)
            In [0, 1].
        labels : Tensor of uint8, same shape
        generator : torch.Generator
            On the CPU, so that the draws are the same on every device.

        Returns
        -------
        tuple of Tensor
            Of the same shapes. Labels are ``UNKNOWN`` where the new image shows an area outside the old one.
        """
        draw = _Draw(generator, images)
        images, labels = self._move(images, labels, draw)
        if self.paste is not None:
            images, labels = _paste(images, labels, *self.paste, self.probability, draw)
        if self.grow is not None:
            images, labels = self.grow(images, labels, generator)
        return self._repaint(images, draw).clamp(0, 1), labels

    def _move(self, images: Tensor, labels: Tensor, draw: _Draw) -> tuple[Tensor, Tensor]:
        """Apply one random affine map to each image of the batch."""
        still = replace(self, flip_rows=0, flip_columns=0, rotate_degrees=0, shear_degrees=0, scale=(1, 1), shift=0)
        if still == self:
            return images, labels
        rows, columns = images.shape[-2:]
        grid = functional.affine_grid(
            self._affine(draw, rows / columns), [len(images), 1, rows, columns], align_corners=False
        ).to(images.device)
        moved = functional.grid_sample(images, grid, mode="bilinear", align_corners=False)
        # Labels are raised by 1 before sampling, so that the zeros that grid_sample puts outside mean "unknown".
        higher = functional.grid_sample(labels.float() + 1, grid, mode="nearest", align_corners=False)
        return moved, torch.where(higher == 0, UNKNOWN, higher - 1).to(torch.uint8)

    def _affine(self, draw: _Draw, aspect: float) -> Tensor:
        """Return affine maps from new to old places, shape (n, 2, 3), in ``affine_grid``'s coordinates [-1, 1].

        They are on the CPU, as the draws are.
        """
        turn = torch.deg2rad(draw.between(-self.rotate_degrees, self.rotate_degrees))
        shear_x, shear_y = (
            torch.tan(torch.deg2rad(draw.between(-self.shear_degrees, self.shear_degrees))) for _ in "xy"
        )
        smaller = 1 / draw.between(*self.scale)
        mirror_x, mirror_y = (
            1 - 2 * (draw.between(0, 1) < probability).float() for probability in (self.flip_columns, self.flip_rows)
        )
        zero, one = torch.zeros_like(turn), torch.ones_like(turn)
        rotation = _matrix(turn.cos(), -turn.sin() * aspect, turn.sin() / aspect, turn.cos())
        shearing = _matrix(one, shear_x * aspect, zero, one) @ _matrix(one, zero, shear_y / aspect, one)
        mirroring = _matrix(smaller * mirror_x, zero, zero, smaller * mirror_y)
        shifts = torch.stack([2 * draw.between(-self.shift, self.shift) for _ in "xy"], dim=1)
        return torch.cat([mirroring @ rotation @ shearing, shifts[:, :, None]], dim=2)

    def _repaint(self, images: Tensor, draw: _Draw) -> Tensor:
        """Change gray values only, so that the labels stay as they are."""
        if self.coarse:
            factor = 1 + float(draw.between(0, self.coarse)[0])
            images = torch.where(draw.happens(self.probability), _coarsen(images, factor), images)
        if self.blur_sigma:
            blurred = _blur(images, 0.3 + float(draw.between(0, self.blur_sigma)[0]))
            sharpened = 2 * images - blurred
            changed = torch.where(draw.happens(0.5), blurred, sharpened)
            images = torch.where(draw.happens(self.probability), changed, images)
        if self.gamma:
            span = torch.log1p(torch.tensor(self.gamma)).item()
            exponent = draw.like(draw.between(-span, span).exp())
            images = torch.where(draw.happens(self.probability), images.clamp(0, 1) ** exponent, images)
        if self.contrast or self.brightness:
            slope = draw.like(draw.between(1 - self.contrast, 1 + self.contrast))
            offset = draw.like(draw.between(-self.brightness, self.brightness))
            windowed = (images - 0.5) * slope + 0.5 + offset
            images = torch.where(draw.happens(self.probability), windowed, images)
        if self.noise:
            deviation = draw.like(draw.between(0, self.noise))
            images = torch.where(draw.happens(self.probability), images + deviation * draw.normal(), images)
        if self.erase:
            images = torch.where(draw.happens(self.probability), _erase(images, self.erase, draw), images)
        return images


@dataclass(frozen=True)
class _Draw:
    """Random numbers for one batch, one per image, drawn on the CPU."""

    generator: torch.Generator
    images: Tensor

    def between(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(self.images), generator=self.generator)

    def happens(self, probability: float) -> Tensor:
        return self.like(self.between(0, 1) < probability)

    def like(self, values: Tensor) -> Tensor:
        """Return one value per image, ready to broadcast over the batch."""
        return values.to(self.images.device)[:, None, None, None]

    def normal(self) -> Tensor:
        return torch.randn(self.images.shape, generator=self.generator).to(self.images.device)


def _paste(
    images: Tensor, labels: Tensor, pasted: int, onto: int, probability: float, draw: _Draw
) -> tuple[Tensor, Tensor]:
    """Paste a class from another image of the batch, at another place; the border fades over about a pixel.

    The few patients have lesions in few places; without pasting, a network would learn these places.
    """
    shifts = [round(float(draw.between(-0.5, 0.5)[0]) * side) for side in images.shape[-2:]]
    flipped = [axis for axis in (-2, -1) if float(draw.between(0, 1)[0]) < 0.5]
    others, their_labels = (t.roll((1, *shifts), dims=(0, -2, -1)).flip(flipped) for t in (images, labels))
    opacity = draw.happens(probability) * draw.like(draw.between(FAINTEST, 1))
    place = (opacity > 0) & (their_labels == pasted) & (labels == onto)
    share = opacity * _blur(place.float(), 0.7)
    return images + share * (others - images), torch.where(place, pasted, labels)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], dim=1), torch.stack([c, d], dim=1)], dim=1)


def _coarsen(images: Tensor, factor: float) -> Tensor:
    rows, columns = images.shape[-2:]
    small = functional.interpolate(
        images, (round(rows / factor), round(columns / factor)), mode="bilinear", antialias=True
    )
    return functional.interpolate(small, (rows, columns), mode="bilinear")


def _blur(images: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    flat = functional.pad(images.flatten(0, 1)[:, None], [reach] * 4, mode="replicate")
    rows_done = functional.conv2d(flat, kernel[None, None, :, None])
    return functional.conv2d(rows_done, kernel[None, None, None, :]).reshape(images.shape)


def _erase(images: Tensor, largest: float, draw: _Draw) -> Tensor:
    rows, columns = images.shape[-2:]
    inside = torch.ones_like(images, dtype=torch.bool)
    for side, axis in ((rows, 2), (columns, 3)):
        length = draw.like(draw.between(0, largest)) * side
        start = draw.like(draw.between(0, 1)) * (side - length)
        shape = [1, 1, 1, 1]
        shape[axis] = side
        place = torch.arange(side, device=images.device).reshape(shape)
        inside = inside & (place >= start) & (place < start + length)
    return torch.where(inside, draw.like(draw.between(0, 1)), images)


NONE = Augmentation()

SAOOD = Augmentation(flip_rows=0.5, shear_degrees=10)
"""The published training script: RandYReflection, RandXShear and RandYShear of +-10 degrees."""

ALALWAN = Augmentation(flip_rows=0.5, flip_columns=0.5, scale=(0.8, 1.2))
"""Alalwan et al. 2021, section 4.1: random scaling from 0.8 to 1.2 and mirroring."""

WU_CLASSIFIER = Augmentation(flip_columns=0.5, scale=(1.0, 1.25), shift=0.1)
"""Wu et al. 2020, "Using a classifier": random clipping and left-right flipping."""

STRONG = Augmentation(
    flip_rows=0.1,
    flip_columns=0.5,
    rotate_degrees=20,
    shear_degrees=5,
    scale=(0.7, 1.3),
    shift=0.1,
    gamma=0.6,
    contrast=0.35,
    brightness=0.15,
    noise=0.06,
    blur_sigma=1.2,
    coarse=1.5,
    erase=0.2,
)
"""Ours: prepares for scans of other windows, kernels, doses and resolutions than those trained on."""
