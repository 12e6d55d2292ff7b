"""A CT series as one volume in Hounsfield units."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import RejectedInput
from worker.findings import Flag
from worker.frames import Frame, NotASlice, read_frames, refusal
from worker.geometry import Geometry
from worker.pixels import decode_hu, is_read_whole

SPACING_TOLERANCE = 0.1
"""Share of the nominal distance by which slices may be nearer or farther than that, or off their even places."""

SAME_DIRECTION = 1e-3
"""Largest difference between direction cosines that still count as the same direction."""

FINEST_PIXEL_MM = 0.05
"""No CT of a chest has finer pixels; grids of blocks in millimetres would take hours on a header that says so."""

TILT_DEGREES = 1.0
"""A smaller angle between the stack and its slices' normal is rounding, not a tilted gantry."""

_FRAMES_PER_TASK = 16


@dataclass(frozen=True)
class SourceSlice:
    """Where a slice of the volume came from; ``frame_number`` (from 1) only in multi-frame objects.

    ``instance_number`` is the Instance Number of its object, by which viewers number single slices; it may be missing.
    ``position_mm`` is the centre of its first voxel according to the header, in patient coordinates (LPS).
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    position_mm: tuple[float, float, float]
    frame_number: int | None = None
    instance_number: int | None = None


@dataclass(frozen=True)
class Volume:
    """A CT series: int16 HU, (slice, row, column), slices ascending along the normal, each with its source.

    Padding outside the field of view reads -1024 HU. ``flags`` are doubts found while reading, such as a
    tilted gantry. ``body_part`` and ``kernel`` (of the reconstruction) are what the header names, or empty.
    ``slice_thickness_mm`` is the most common one, which may be more or less than the distance between slices.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    slices: tuple[SourceSlice, ...]
    flags: tuple[Flag, ...] = ()
    body_part: str = ""
    kernel: str = ""
    has_contrast_agent: bool = False
    slice_thickness_mm: float | None = None


def read_volume(paths: Sequence[Path]) -> Volume:
    """Read one CT series, single or multi-frame, in any order of its files.

    The geometry is exact for every orientation, for pixels that are not square, and for a tilted gantry,
    whose affine is sheared. Pixel data is decoded straight into the one array returned.

    Raises
    ------
    NotForHilum
        No CT slice among the files (only other SOP classes or localizers), or a CT of another body part that cannot
        be read.
    NotAnalysable
        A slice is missing or given twice, spacing is uneven, orientations, sizes, patients or series are mixed,
        the rescale to HU or a position is absent, or pixel data cannot be decoded.

    Notes
    -----
    Slices are sorted by their position along the normal, the cross product of row and column cosines
    (PS3.3 C.7.6.2.1.1); instance numbers and slice locations are not trusted.
    """
    frames = _read_slices(paths)
    _require_alike(frames)
    normal = np.cross(*frames[0].orientation)
    frames.sort(key=lambda frame: float(frame.position @ normal))
    _require_even_spacing(frames, normal)
    geometry = _geometry(frames)
    return Volume(
        hu=_decode(frames, geometry.shape),
        geometry=geometry,
        slices=tuple(_source_slice(frame) for frame in frames),
        flags=_tilt_flags(geometry),
        body_part=frames[0].body_part,
        kernel=frames[0].kernel,
        has_contrast_agent=any(frame.has_contrast_agent for frame in frames),
        slice_thickness_mm=Counter(frame.thickness_mm for frame in frames).most_common(1)[0][0],
    )


def _read_slices(paths: Sequence[Path]) -> list[Frame]:
    """Return the frames of all files; objects among them that are no CT slices, such as a localizer, are left out."""
    frames: list[Frame] = []
    others: list[NotASlice] = []
    for path in paths:
        try:
            frames += read_frames(path)
        except NotASlice as error:
            others.append(error)
    if not frames:
        raise others[0] if others else NotASlice("no-images", "expected the files of a CT series, got none")
    return frames


def _source_slice(frame: Frame) -> SourceSlice:
    x, y, z = frame.position.tolist()
    return SourceSlice(
        frame.path, frame.sop_class_uid, frame.sop_instance_uid, (x, y, z), frame.number, frame.instance_number
    )


def _require_alike(frames: Sequence[Frame]) -> None:
    first = frames[0]

    def refuse_if(is_mixed: bool, what: str) -> None:
        if is_mixed:
            message = f"expected one {what} in all slices, got several; select one series of parallel slices"
            raise refusal(first.body_part, f"mixed-{what.replace(' ', '-')}", message)

    refuse_if(len({f.series_instance_uid for f in frames}) > 1, "series")
    refuse_if(len({f.patient_id for f in frames} - {""}) > 1, "patient")
    refuse_if(len({f.frame_of_reference_uid for f in frames}) > 1, "frame of reference")
    refuse_if(any(np.abs(f.orientation - first.orientation).max() > SAME_DIRECTION for f in frames), "orientation")
    refuse_if(len({(f.rows, f.columns) for f in frames}) > 1, "image size")
    refuse_if(not all(np.allclose(f.spacing_mm, first.spacing_mm, rtol=1e-3) for f in frames), "pixel spacing")
    row, column = first.orientation
    if abs(row @ column) > SAME_DIRECTION or not np.allclose([row @ row, column @ column], 1, atol=1e-2):
        message = "expected row and column cosines of length 1 at right angles, got others; check the sender"
        raise refusal(first.body_part, "invalid-orientation", message)
    if (finest := min(first.spacing_mm)) < FINEST_PIXEL_MM:
        message = f"expected Pixel Spacing of at least {FINEST_PIXEL_MM} mm, got {finest:g} mm"
        raise refusal(first.body_part, "no-pixel-spacing", message)


def _require_even_spacing(frames: Sequence[Frame], normal: NDArray[np.float64]) -> None:
    """Refuse a stack that is not evenly spaced along one line; `frames` are sorted along the normal."""

    def refuse(code: str, message: str) -> RejectedInput:
        return refusal(frames[0].body_part, code, message)

    if len(frames) < 2:
        raise refuse("too-few-slices", "expected a stack of slices, got 1")
    positions = np.array([frame.position for frame in frames])
    heights = positions @ normal
    distances = np.diff(heights)
    nominal = float(np.median(distances))
    twice = int(np.count_nonzero(distances <= max(0.01, SPACING_TOLERANCE * nominal)))
    if twice:
        raise refuse("duplicate-positions", f"expected one slice a position, got {twice} position(s) filled twice")
    off = np.abs(distances - nominal) > SPACING_TOLERANCE * nominal
    # Positions that were rounded vary from slice to slice, yet each slice is where an even stack has it.
    departures = heights - np.linspace(heights[0], heights[-1], len(frames))
    if off.any() and np.abs(departures).max() > SPACING_TOLERANCE * nominal:
        multiples = np.rint(distances[off] / nominal)
        if (np.abs(distances[off] - multiples * nominal) <= SPACING_TOLERANCE * nominal).all():
            missing = int((multiples - 1).sum())
            raise refuse(
                "missing-slices",
                f"expected a slice every {nominal:.3g} mm, got gaps where {missing} slice(s) are missing; "
                "send the whole series again",
            )
        found = f"{distances.min():.3g} to {distances.max():.3g} mm"
        raise refuse("uneven-spacing", f"expected slices every {nominal:.3g} mm within 10 %, got {found}")
    line = np.linspace(positions[0], positions[-1], len(frames))
    if np.linalg.norm(positions - line, axis=1).max() > max(0.5 * nominal, *frames[0].spacing_mm):
        raise refuse("not-a-stack", "expected slices along one straight line, got slices shifted sideways")


def _geometry(frames: Sequence[Frame]) -> Geometry:
    first, last = frames[0], frames[-1]
    row, column = first.orientation
    affine = np.eye(4)
    affine[:3, 0] = (last.position - first.position) / (len(frames) - 1)
    affine[:3, 1] = column * first.spacing_mm[0]
    affine[:3, 2] = row * first.spacing_mm[1]
    affine[:3, 3] = first.position
    return Geometry((len(frames), first.rows, first.columns), affine, first.frame_of_reference_uid)


def _tilt_flags(geometry: Geometry) -> tuple[Flag, ...]:
    step, column, row = geometry.affine[:3, :3].T
    normal = np.cross(row, column)
    cosine = step @ normal / (np.linalg.norm(step) * np.linalg.norm(normal))
    degrees = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    if degrees < TILT_DEGREES:
        return ()
    return (Flag("gantry-tilt", f"The gantry was tilted by {degrees:.1f} degrees; volumes allow for it."),)


def _decode(frames: Sequence[Frame], shape: tuple[int, int, int]) -> NDArray[np.int16]:
    hu = np.empty(shape, np.int16)

    def fill(task: list[tuple[int, Frame]]) -> None:
        for (index, _), image in zip(task, decode_hu([frame for _, frame in task]), strict=True):
            hu[index] = image

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as threads:
        for _ in threads.map(fill, _tasks(frames)):
            pass
    return hu


def _tasks(frames: Sequence[Frame]) -> Iterator[list[tuple[int, Frame]]]:
    """Yield groups of (slice index, frame) by file, a few frames each if the file can be read by single frames."""
    of_file: dict[Path, list[tuple[int, Frame]]] = {}
    for item in enumerate(frames):
        of_file.setdefault(item[1].path, []).append(item)
    for items in of_file.values():
        count = len(items) if is_read_whole(items[0][1]) else _FRAMES_PER_TASK
        for start in range(0, len(items), count):
            yield items[start : start + count]
