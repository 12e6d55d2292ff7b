"""Whole-chest versions of the slices of medicalsegmentation.com (SIRM), in windows that are not documented.

::

    image/000.png  lung/000.png (0, 1)  classes/000.png (0 background, 1 ground-glass opacity,
                                                         2 consolidation, 3 pleural effusion)

The files show the patient's left on the left; a sample's columns run the other way. HU are estimated in each image.
Some slices carry arrows or circles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.calibrate import scale_of_window, to_hu
from training.datasets.images import list_images, read_gray
from training.datasets.sample import (
    CONSOLIDATION,
    GROUND_GLASS_OPACITY,
    LUNG,
    PLEURAL_EFFUSION,
    BadData,
    Sample,
)

LABELS = {GROUND_GLASS_OPACITY: 1, CONSOLIDATION: 2, PLEURAL_EFFUSION: 3}


def read(folder: Path) -> Iterator[Sample]:
    """Yield the slices in the order of their numbers, in estimated HU.

    Raises
    ------
    BadData
        When a mask is missing, has another shape than its image, or a label that is no class.
    """
    for path in list_images(folder / "image", "*.png"):
        classes_path = folder / "classes" / path.name
        gray, lung_gray, classes = (
            read_gray(file)[:, ::-1] for file in (path, folder / "lung" / path.name, classes_path)
        )
        lung = lung_gray > 0
        if classes.max() > max(LABELS.values()):
            raise BadData("unknown-label", f"{classes_path}: expected labels 0 to 3, got {classes.max()}")
        if not gray.shape == lung.shape == classes.shape:
            raise BadData("wrong-shape", f"{path}: image {gray.shape}, lung {lung.shape}, classes {classes.shape}")
        yield Sample(
            name=path.stem,
            source="medseg-chest",
            patient=None,
            scan=path.stem,
            position=0,
            image=to_hu(gray, *scale_of_window(gray, lung, lung & (classes == 0), str(path)))[None],
            intensity="hu",
            masks={
                LUNG: lung[None],
                **{structure: (classes == label)[None] for structure, label in LABELS.items()},
            },
        )
