"""Synthetic opacities grown in lung: a network must find them wherever they lie and however dense they are.

Nine patients have their lesions in few places, nearly all of them at the back and the pleura. Lesions pasted from one
image into another have real texture, but only the shapes and densities of the data; these opacities add others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RADIUS = (0.02, 0.14)
"""Range of an opacity's radius, as a share of the image's longer side: some 1 to 6 cm in a chest."""

CONTRAST = (0.08, 0.5)
"""Range of how much brighter than lung opacities are, in gray of [0, 1]: 140 to 900 HU in Wu et al.'s window.

Faint ones are likelier.
"""

ROUGHNESS = 0.4
"""Roughness of the border, as a share of the radius."""


@dataclass(frozen=True)
class Opacities:
    """Draws synthetic opacities into images.

    Parameters
    ----------
    infected, lung : int
        The class that an opacity is labelled as, and the class in which it may grow.
    probability : float
        Probability of each of an image's possible opacities.
    most : int
        Largest number of opacities in an image.
    """

    infected: int
    lung: int
    probability: float = 0.4
    most: int = 2

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw opacities into a batch: images in [0, 1] and labels, both (n, slices, rows, columns).

        All slices of a stack get the same opacities. Vessels, which are denser, stay visible within ground glass.
        """
        images, labels = images.clone(), labels.clone()
        for image, label in zip(images, labels, strict=True):
            for _ in range(self.most):
                if float(torch.rand(1, generator=generator)) < self.probability:
                    self._grow(image, label, generator)
        return images, labels

    def _grow(self, image: Tensor, label: Tensor, generator: torch.Generator) -> None:
        """Draw one opacity into a stack."""
        lung = label == self.lung
        places = lung.flatten().nonzero()
        if len(places) == 0:
            return
        rows, columns = image.shape[-2:]
        draws = torch.rand(6, generator=generator)
        place = int(places[int(draws[0] * len(places))]) % (rows * columns)
        radius = max(rows, columns) * RADIUS[0] * (RADIUS[1] / RADIUS[0]) ** float(draws[1])
        contrast = CONTRAST[0] * (CONTRAST[1] / CONTRAST[0]) ** float(draws[2])
        softness = 0.05 + 0.5 * float(draws[3])
        flatness, turn = 1 + float(draws[4]), torch.pi * float(draws[5])
        y = torch.arange(rows, device=image.device)[:, None] - place // columns
        x = torch.arange(columns, device=image.device)[None, :] - place % columns
        cos, sin = torch.cos(torch.tensor(turn)).item(), torch.sin(torch.tensor(turn)).item()
        along, across = cos * x + sin * y, flatness * (cos * y - sin * x)
        rough = _clouds((rows, columns), max(2.0, radius / 2), generator).to(image.device)
        depth = 1 - torch.hypot(along, across) / radius + ROUGHNESS * rough
        texture = 1 + 0.25 * _clouds((rows, columns), 2.0, generator).to(image.device)
        density = torch.sigmoid(depth / softness) * contrast * texture
        usual = image[lung].median()
        inside = torch.where(lung, density, 0.0)
        image += inside * (1 - (image - usual) / contrast).clamp(0, 1)
        label[lung & (depth > 0)] = self.infected


def _clouds(shape: tuple[int, int], size: float, generator: torch.Generator) -> Tensor:
    """Return smooth noise of mean 0 and standard deviation 1, in clouds of about ``size`` pixels."""
    coarse = torch.randn([1, 1, *(int(side / size) + 3 for side in shape)], generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=shape, mode="bicubic", align_corners=False)[0, 0]
    return (fine - fine.mean()) / fine.std()
