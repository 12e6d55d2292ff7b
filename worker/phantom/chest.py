"""The whole chest: HU with texture and noise, and the ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.phantom.anatomy import HEIGHT_MM, build_anatomy
from worker.phantom.lesions import CONSOLIDATION_HU, GROUND_GLASS_HU, grow_lesions
from worker.phantom.shapes import Field, Space, paint, smooth_noise
from worker.phantom.trees import (
    HILA,
    LEAVES,
    carve_airways,
    grow_tree,
    paint_airways,
    paint_trunks,
    paint_vessels,
)

COLUMNS = 512
FIELD_OF_VIEW_MM = 400.0
PARENCHYMA_HU = -862.0
NOISE_HU = 14.0


@dataclass(frozen=True)
class Chest:
    """HU, lung labels (1 left, 2 right) and infection as (slice, row, column), slice 0 nearest the feet."""

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]
    infection: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]


def build_chest(seed: int, slices: int) -> Chest:
    """Build the phantom: large organs and lesions at half the in-plane resolution, vessels and airways at the full."""
    rng = np.random.default_rng(seed)
    slice_mm, pixel_mm = HEIGHT_MM / slices, FIELD_OF_VIEW_MM / COLUMNS
    half = Space.regular((slices, COLUMNS // 2, COLUMNS // 2), (slice_mm, 2 * pixel_mm, 2 * pixel_mm))
    full = Space.regular((slices, COLUMNS, COLUMNS), (slice_mm, pixel_mm, pixel_mm))

    anatomy = build_anatomy(half)
    lungs = {"left": anatomy.left_lung, "right": anatomy.right_lung}
    trees = [grow_tree(root, _targets(half, lungs[side], rng)) for side, roots in HILA.items() for root in roots]
    for lung in lungs.values():
        carve_airways(lung, half)
    both = np.maximum(lungs["left"], lungs["right"])
    ground_glass, consolidation = grow_lesions(half, both, rng)
    hu = anatomy.hu
    hu += 4 * smooth_noise(half, 8.0, rng) * (hu > -200)
    paint(hu, both, _parenchyma(half, ground_glass, consolidation, rng), 1.4)

    fine = np.stack([_enlarged(plane) for plane in hu])
    paint_trunks(fine, full)
    paint_airways(fine, full, trees[::2])
    for tree in trees:
        paint_vessels(fine, full, tree)
    labels = np.stack(
        [
            np.where(_enlarged(left) > 0, np.uint8(1), np.where(_enlarged(right) > 0, np.uint8(2), np.uint8(0)))
            for left, right in zip(lungs["left"], lungs["right"], strict=True)
        ]
    )
    infection = np.stack([_enlarged(plane) > 0 for plane in ground_glass]) & (labels > 0)
    _add_noise(fine, rng)
    return Chest(np.rint(fine).clip(-1024, 3071).astype(np.int16), labels, infection, (slice_mm, pixel_mm, pixel_mm))


def _parenchyma(space: Space, ground_glass: Field, consolidation: Field, rng: np.random.Generator) -> Field:
    """Return the HU of lung tissue, denser towards the back, with fissures and lesions."""
    hu = PARENCHYMA_HU + 0.28 * space.y + 9 * smooth_noise(space, 9.0, rng)
    oblique = (space.y - 70 + (220 - space.z) * 0.82 + 9 * np.sin(space.x / 30)) * 0.77
    horizontal = np.where((space.x < 0) & (oblique < 0), space.z - 152 + 6 * np.sin(space.y / 25), np.float32(9))
    paint(hu, 0.4 - np.minimum(np.abs(oblique), np.abs(horizontal)), -740.0)
    paint(hu, ground_glass, GROUND_GLASS_HU + 50 * smooth_noise(space, 6.0, rng), 4.0)
    paint(hu, consolidation, CONSOLIDATION_HU, 4.0)
    return hu


def _targets(space: Space, lung: Field, rng: np.random.Generator) -> NDArray[np.float32]:
    places = np.argwhere(lung > 3.5)
    z, y, x = places[rng.choice(len(places), LEAVES, replace=False)].T
    return np.stack([space.x.ravel()[x], space.y.ravel()[y], space.z.ravel()[z]], axis=1)


def _enlarged(plane: Field) -> Field:
    return np.asarray(Image.fromarray(plane).resize((COLUMNS, COLUMNS), Image.Resampling.BICUBIC))


def _add_noise(hu: Field, rng: np.random.Generator) -> None:
    """Add the grainy noise of filtered back projection: a ramp times a falling kernel, weaker in lung and air."""
    frequency = np.hypot(np.fft.fftfreq(COLUMNS)[:, None], np.fft.rfftfreq(COLUMNS)[None])
    kernel = frequency * np.exp(-((frequency / 0.22) ** 2))
    patterns = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((COLUMNS, COLUMNS))) * kernel) for _ in range(8)]
    for plane in hu:
        pattern = patterns[rng.integers(len(patterns))]
        pattern = np.roll(pattern, rng.integers(0, COLUMNS, 2), axis=(0, 1))[:: rng.choice((-1, 1))]
        strength = np.where(plane < -900, 0.55, np.where(plane < -300, 0.8, 1.0))
        plane += (NOISE_HU / pattern.std() * strength * pattern).astype(np.float32)
