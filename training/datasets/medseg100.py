"""The 100 slices of Saood & Hatem 2021, "The dataset", as their repository lays them out.

::

    dataset/im/256/i001.png                     8-bit, zero outside the lungs
    dataset/mask/multi/256/tr_mask_z001.png     0 background, 85 ground-glass opacity, 170 consolidation,
                                                255 pleural effusion

The slices have no patient identities, although some patients have several. They lie on their side, as the authors
used them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from training.datasets.images import list_images, read_gray
from training.datasets.sample import (
    CONSOLIDATION,
    GROUND_GLASS_OPACITY,
    PLEURAL_EFFUSION,
    BadData,
    Sample,
)

GRAY_OF = {GROUND_GLASS_OPACITY: 85, CONSOLIDATION: 170, PLEURAL_EFFUSION: 255}


def read(folder: Path) -> Iterator[Sample]:
    """Yield the slices in the order of their numbers.

    Raises
    ------
    BadData
        When a mask is missing, has another shape than its image, or a gray value that is no class.
    """
    for path in list_images(folder / "dataset" / "im" / "256", "i*.png"):
        number = path.stem.removeprefix("i")
        mask_path = folder / "dataset" / "mask" / "multi" / "256" / f"tr_mask_z{number}.png"
        image, classes = read_gray(path), read_gray(mask_path)
        if classes.shape != image.shape:
            raise BadData("wrong-shape", f"{mask_path}: {classes.shape} pixels, its image has {image.shape}")
        strange = set(np.unique(classes).tolist()) - {0, *GRAY_OF.values()}
        if strange:
            raise BadData(
                "unknown-label", f"{mask_path}: expected gray values 0, 85, 170 and 255, got {sorted(strange)}"
            )
        yield Sample(
            name=path.stem,
            source="medseg100",
            patient=None,
            scan=path.stem,
            position=0,
            image=image[None],
            intensity="gray",
            masks={structure: (classes == gray)[None] for structure, gray in GRAY_OF.items()},
        )
