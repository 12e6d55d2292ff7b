"""One view of the key image: a plane in the lung window, with outlines, orientation and a scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from worker.findings import LEFT, RIGHT, Findings
from worker.geometry import Geometry
from worker.grid import Box as VoxelBox
from worker.reports import codes, style
from worker.reports.planes import Plane
from worker.reports.style import Box, Rgb
from worker.volume import Volume

LUNG_WINDOW_HU = (-1350.0, 150.0)
"""The usual lung window: the HU shown as black, and the HU shown as white."""

_MARGIN_MM = 18.0
_SCALE_MM = 50.0
_ENLARGEMENT = 2
"""Outlines are drawn this many times larger (in half pixels) and then shrunk, which smooths them."""


@dataclass(frozen=True)
class Scene:
    """The volume and its masks along the anatomical axes, cropped to the lungs and a margin.

    Parameters
    ----------
    geometry : Geometry
        Geometry of the whole volume.
    hu, labels, infection : ndarray, (z, y, x)
        Views of the volume's and the findings' arrays, not copies.
    origin : tuple of int
        Index at which the crop begins along each of these axes.
    """

    geometry: Geometry
    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    infection: NDArray[np.bool_]
    origin: tuple[int, int, int]

    def level(self, slice_index: int) -> int:
        """Return the index of a slice of the volume counted from the feet."""
        _, rows, columns = self.geometry.shape
        at = slice(slice_index, slice_index + 1)
        along, _, _ = self.geometry.anatomical_box((at, slice(0, rows), slice(0, columns)))
        return int(along.start)

    @property
    def ends(self) -> tuple[str, str]:
        """The letters of the volume's two ends: F (feet) or H (head) at its first slice and at its last."""
        return ("F", "H") if self.level(0) == 0 else ("H", "F")


def look_at(volume: Volume, findings: Findings) -> Scene:
    """Return an axial volume and its masks along the anatomical axes, cropped to the lungs and a margin."""
    geometry = volume.geometry
    anatomical = geometry.anatomical
    z, y, x = box = geometry.anatomical_box(_box_of(findings))
    return Scene(
        geometry,
        anatomical(volume.hu)[box],
        anatomical(findings.lungs.labels)[box],
        anatomical(findings.infection.array)[box],
        (z.start, y.start, x.start),
    )


def draw_view(picture: Image.Image, box: Box, scene: Scene, plane: Plane, index: int) -> Box:
    """Draw the plane at an index along its axis into a box of the picture; return the box that the image covers."""
    draw = ImageDraw.Draw(picture)
    draw.rectangle(box, fill=(0, 0, 0))
    at = index - scene.origin[plane.axis]
    image = plane.cut(scene.hu, at)
    place, scale = _fit(image.shape, plane.pixel_mm(scene.geometry.anatomical_spacing_mm), box)
    size = (place[2] - place[0], place[3] - place[1])
    picture.paste(Image.fromarray(_window(image)).resize(size, Image.Resampling.BICUBIC), place[:2])
    labels = plane.cut(scene.labels, at)
    infection = plane.cut(scene.infection, at)
    for mask, colour, half_pixels in (
        (labels == LEFT, codes.LEFT_LUNG.rgb, 2),
        (labels == RIGHT, codes.RIGHT_LUNG.rgb, 2),
        (infection, codes.INFECTION.rgb, 3),
    ):
        picture.paste(Image.new("RGB", size, colour), place[:2], _outline(mask, size, half_pixels))
    _letters(draw, box, plane)
    _scale_bar(draw, box, scale)
    return place


def draw_level(picture: Image.Image, box: Box, place: Box, share: float) -> None:
    """Draw a dashed line across a view where the other view's plane crosses it, at that share of the image's height."""
    draw = ImageDraw.Draw(picture)
    y = round(place[1] + share * (place[3] - place[1]))
    for x in range(box[0], box[2], 12):
        draw.line((x, y, x + 5, y), fill=style.ACCENT)


def _box_of(findings: Findings) -> VoxelBox:
    """Return the bounding box of lung and infection in the volume, with a margin."""
    lungs, infection = findings.lungs.labels, findings.infection.array.view(np.uint8)
    shadow = np.bitwise_or.reduce(lungs) | np.bitwise_or.reduce(infection)  # of all slices, projected onto one
    slices = (findings.areas.lung_mm2 > 0) | (findings.areas.infection_mm2 > 0)
    occupied = slices, shadow.any(axis=1), shadow.any(axis=0)
    z, y, x = (_extent(*along) for along in zip(occupied, findings.geometry.spacing_mm, strict=True))
    return z, y, x


def _extent(occupied: NDArray[np.bool_], spacing_mm: float) -> slice:
    where = np.flatnonzero(occupied)
    margin = round(_MARGIN_MM / spacing_mm)
    if not where.size:
        return slice(0, len(occupied))
    return slice(max(int(where[0]) - margin, 0), min(int(where[-1]) + margin + 1, len(occupied)))


def _fit(shape: tuple[int, ...], pixel_mm: tuple[float, float], box: Box) -> tuple[Box, float]:
    """Return where an image lies when centred in a box, and its scale in picture pixels per mm."""
    height_mm, width_mm = shape[0] * pixel_mm[0], shape[1] * pixel_mm[1]
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(width / width_mm, height / height_mm)
    size = (max(round(width_mm * scale), 1), max(round(height_mm * scale), 1))
    left, top = box[0] + (width - size[0]) // 2, box[1] + (height - size[1]) // 2
    return (left, top, left + size[0], top + size[1]), scale


def _window(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    low, high = LUNG_WINDOW_HU
    gray: NDArray[np.uint8] = ((hu - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    return gray


def _outline(mask: NDArray[np.bool_], size: tuple[int, int], half_pixels: int) -> Image.Image:
    """Return a mask's outline as an opacity image of this size; the outline lies inside the mask's border."""
    large = (size[0] * _ENLARGEMENT, size[1] * _ENLARGEMENT)
    gray = Image.fromarray(mask.astype(np.uint8) * 255).resize(large, Image.Resampling.BILINEAR)
    filled = np.asarray(gray) >= 128
    edge = filled & ~_eroded(filled, half_pixels)
    return Image.fromarray(edge.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)


def _eroded(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    for axis in (0, 1):
        whole = mask
        for step in range(1, pixels + 1):
            mask = mask & np.roll(whole, step, axis) & np.roll(whole, -step, axis)
    return mask


def _letters(draw: ImageDraw.ImageDraw, box: Box, plane: Plane) -> None:
    left, top, right, bottom = box
    middle, centre = (top + bottom) // 2, (left + right) // 2
    for letter, xy, anchor in (
        (plane.left, (left + 10, middle), "lm"),
        (plane.right, (right - 10, middle), "rm"),
        (plane.top, (centre, top + 8), "mt"),
        (plane.bottom, (centre, bottom - 8), "mb"),
    ):
        text(draw, xy, letter, 22, style.TEXT, anchor)
    text(draw, (left + 12, top + 10), plane.name, 20, style.TEXT, "lt")


def _scale_bar(draw: ImageDraw.ImageDraw, box: Box, scale: float) -> None:
    length = round(_SCALE_MM * scale)
    right, y = box[2] - 14, box[3] - 14
    draw.line((right - length, y, right, y), fill=style.TEXT, width=2)
    for x in (right - length, right):
        draw.line((x, y - 5, x, y + 5), fill=style.TEXT, width=2)
    text(draw, (right - length // 2, y - 8), f"{_SCALE_MM / 10:g} cm", 16, style.TEXT, "mb")


def text(
    draw: ImageDraw.ImageDraw, xy: tuple[float, float], words: str, size: int, colour: Rgb, anchor: str = "la"
) -> None:
    """Write text over an image, with a dark rim so that it is legible on bone as well as on air."""
    draw.text(xy, words, font=style.font(size), fill=colour, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
