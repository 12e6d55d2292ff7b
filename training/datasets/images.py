"""8-bit images and label maps of slices, as PNG or JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.datasets.sample import BadData


def read_gray(path: Path) -> NDArray[np.uint8]:
    """Return an 8-bit single-channel image, uint8 (rows, columns).

    Raises
    ------
    BadData
        When the file is missing, is no image, or has colour.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in {"L", "P"}:
                raise BadData("not-gray", f"{path}: expected 8-bit gray, got mode {image.mode}")
            return np.asarray(image, np.uint8)
    except FileNotFoundError:
        raise BadData("missing-file", f"{path}: missing") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a damaged chunk of a PNG a SyntaxError
        raise BadData("unreadable-file", f"{path}: not a whole image: {error}") from error


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return a mask, bool (rows, columns), from an image that is 0, or 255 where the structure lies.

    Raises
    ------
    BadData
        When the image has other gray values, or for the reasons of ``read_gray``.
    """
    gray = read_gray(path)
    other = sorted(set(np.unique(gray).tolist()) - {0, 255})
    if other:
        raise BadData("unknown-label", f"{path}: expected a mask of 0 and 255, got {other[0]}")
    return gray.astype(np.bool_)


def list_images(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that match, sorted by name.

    Raises
    ------
    BadData
        When there is none.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise BadData("missing-file", f"{folder}: expected files {pattern}, found none")
    return paths
