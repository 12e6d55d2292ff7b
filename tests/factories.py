"""Synthetic CT series with known truth: any orientation, spacing, tilt, encoding and fault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""ImageOrientationPatient of ordinary axial slices, supine, head first."""


def chest_hu(
    shape: tuple[int, int, int] = (40, 96, 128), *, infected: bool = True, seed: int = 0
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the HU of a small chest of ellipsoids, its lung labels (1 left, 2 right) and its infection.

    The shape suits axial slices of about 6 x 3 x 3 mm, with the head at the last slice and the patient's left at high
    columns. Fast and crude on purpose; `worker.phantom` makes a realistic chest.
    """
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    body = (y / 0.85) ** 2 + (x / 0.92) ** 2 < 1
    left = ((x - 0.42) / 0.3) ** 2 + (y / 0.55) ** 2 + (z / 0.8) ** 2 < 1
    right = ((x + 0.42) / 0.33) ** 2 + (y / 0.58) ** 2 + (z / 0.82) ** 2 < 1
    lesion = ((x + 0.42) / 0.14) ** 2 + ((y - 0.2) / 0.2) ** 2 + (z / 0.25) ** 2 < 1
    hu = np.full(shape, -1000.0)
    hu[np.broadcast_to(body, shape)] = 40
    hu[left | right] = -850
    infection = lesion & right & infected
    hu[infection] = -500
    hu += np.random.default_rng(seed).normal(0, 15, shape)
    labels = np.where(left, 1, np.where(right, 2, 0)).astype(np.uint8)
    return np.round(hu).clip(-1024, 3071).astype(np.int16), labels, infection


def gradient_hu(shape: tuple[int, int, int] = (5, 6, 7)) -> NDArray[np.int16]:
    """Return HU that are different in every voxel, so that any flip or swap of axes changes the array."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape) * 3 - 900


def ct_series(
    folder: Path,
    hu: NDArray[np.integer],
    *,
    orientation: Sequence[float] = AXIAL,
    origin_mm: Sequence[float] = (-150.0, -140.0, -200.0),
    spacing_mm: tuple[float, float, float] = (6.0, 3.0, 3.0),
    tilt_degrees: float = 0.0,
    keep: Sequence[int] | None = None,
    slope: float = 1.0,
    intercept: float = -1024.0,
    signed: bool = False,
    transfer_syntax: str = ExplicitVRLittleEndian,
    seed: int | None = None,
    **attributes: Any,
) -> list[Path]:
    """Write a CT Image Storage series and return its paths.

    Parameters
    ----------
    hu : ndarray, (slice, row, column)
        The values that a reader must return, to within half the slope. Slice 0 lies at `origin_mm`, the others follow
        along the normal (row x column cosines).
    spacing_mm
        Along (slice, row, column).
    tilt_degrees
        Gantry tilt: slices stay parallel, but each is also shifted along its columns.
    keep
        Indices of the slices to write; the others are missing.
    seed
        Shuffles file names and instance numbers; None keeps them in order.
    attributes
        Set on every instance last; None removes the attribute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    positions = slice_positions(len(hu), orientation, origin_mm, spacing_mm[0], tilt_degrees)
    indices = list(range(len(hu)) if keep is None else keep)
    numbers = list(range(1, len(indices) + 1))
    if seed is not None:
        np.random.default_rng(seed).shuffle(numbers)
    shared = _shared_attributes()
    paths = []
    for number, index in zip(numbers, indices, strict=True):
        ds = _header(CTImageStorage, shared)
        ds.InstanceNumber = number
        ds.ImagePositionPatient = [_ds(v) for v in positions[index]]
        ds.ImageOrientationPatient = [_ds(v) for v in orientation]
        ds.PixelSpacing = [_ds(v) for v in spacing_mm[1:]]
        ds.SliceThickness = _ds(spacing_mm[0])
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = _ds(slope), _ds(intercept), "HU"
        _set_pixels(ds, hu[index], slope, intercept, signed=signed)
        _set_attributes(ds, attributes)
        path = folder / f"{number:04d}.dcm"
        _save(ds, path, transfer_syntax)
        paths.append(path)
    return paths


def multiframe_ct(
    folder: Path,
    hu: NDArray[np.integer],
    *,
    legacy_converted: bool = False,
    kernel: str | Sequence[str] | None = "STANDARD",
    kernel_of_each_frame: bool = False,
    orientation: Sequence[float] = AXIAL,
    origin_mm: Sequence[float] = (-150.0, -140.0, -200.0),
    spacing_mm: tuple[float, float, float] = (6.0, 3.0, 3.0),
    slope: float = 1.0,
    intercept: float = -1024.0,
    transfer_syntax: str = ExplicitVRLittleEndian,
    seed: int | None = None,
    **attributes: Any,
) -> list[Path]:
    """Write the volume as one Enhanced CT (or Legacy Converted Enhanced CT) object; see `ct_series`.

    With a seed the frames are shuffled. Positions are in the per-frame functional groups, the rest in the shared ones
    (PS3.3 C.7.6.16); the kernel is where converters to each class write it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = np.arange(len(hu))
    if seed is not None:
        np.random.default_rng(seed).shuffle(order)
    positions = slice_positions(len(hu), orientation, origin_mm, spacing_mm[0])
    sop_class = LegacyConvertedEnhancedCTImageStorage if legacy_converted else EnhancedCTImageStorage
    ds = _header(sop_class, _shared_attributes())
    ds.InstanceNumber, ds.NumberOfFrames = 1, len(hu)
    ds.SharedFunctionalGroupsSequence = [_shared_group(orientation, spacing_mm, slope, intercept)]
    ds.PerFrameFunctionalGroupsSequence = [_frame_group(positions[i], number) for number, i in enumerate(order, 1)]
    del ds.ConvolutionKernel
    named = ds.PerFrameFunctionalGroupsSequence if kernel_of_each_frame else ds.SharedFunctionalGroupsSequence
    for group in named if kernel else ():
        reconstruction = Dataset()
        reconstruction.ConvolutionKernel = kernel
        setattr(group, _kernel_sequence(legacy_converted, kernel_of_each_frame), [reconstruction])
    _set_pixels(ds, hu[order], slope, intercept, signed=False)
    _set_attributes(ds, attributes)
    path = folder / "multiframe.dcm"
    _save(ds, path, transfer_syntax)
    return [path]


def slice_positions(
    count: int,
    orientation: Sequence[float],
    origin_mm: Sequence[float],
    step_mm: float,
    tilt_degrees: float = 0.0,
) -> NDArray[np.float64]:
    """Return the true ImagePositionPatient of every slice, shape (count, 3), which `ct_series` writes."""
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    step = step_mm * (np.cross(row, column) + np.tan(np.radians(tilt_degrees)) * column)
    positions: NDArray[np.float64] = np.asarray(origin_mm) + np.arange(count)[:, None] * step
    return positions


def _shared_attributes() -> Dataset:
    """Return the attributes that all instances of a study share, as in a complete CT."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240229"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112"
    ds.AccessionNumber = "A1"
    ds.Modality = "CT"
    ds.Manufacturer, ds.ManufacturerModelName = "Hilum tests", "Factory"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = "Chest", "Axial 1"
    ds.PatientName, ds.PatientID = "Synthetic^Series", "SYNTHETIC-1"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.BodyPartExamined = "CHEST"
    ds.KVP, ds.ConvolutionKernel, ds.PatientPosition = "120", "STANDARD", "HFS"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = generate_uid(), ""
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 1, 1
    ds.WindowCenter, ds.WindowWidth = "-600", "1500"
    return ds


def _header(sop_class: str, shared: Dataset) -> Dataset:
    ds = Dataset()
    ds.update(shared)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    return ds


def _shared_group(
    orientation: Sequence[float], spacing_mm: tuple[float, float, float], slope: float, intercept: float
) -> Dataset:
    measures, plane, transformation, frame_type = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [_ds(v) for v in spacing_mm[1:]]
    measures.SliceThickness = _ds(spacing_mm[0])
    plane.ImageOrientationPatient = [_ds(v) for v in orientation]
    transformation.RescaleSlope, transformation.RescaleIntercept = _ds(slope), _ds(intercept)
    transformation.RescaleType = "HU"
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    group = Dataset()
    group.PixelMeasuresSequence = [measures]
    group.PlaneOrientationSequence = [plane]
    group.PixelValueTransformationSequence = [transformation]
    group.CTImageFrameTypeSequence = [frame_type]
    return group


def _kernel_sequence(legacy_converted: bool, of_each_frame: bool) -> str:
    if not legacy_converted:
        return "CTReconstructionSequence"
    return f"Unassigned{'PerFrame' if of_each_frame else 'Shared'}ConvertedAttributesSequence"


def _frame_group(position: NDArray[np.float64], number: int) -> Dataset:
    content, plane, group = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", number
    plane.ImagePositionPatient = [_ds(v) for v in position]
    group.FrameContentSequence, group.PlanePositionSequence = [content], [plane]
    return group


def _set_pixels(ds: Dataset, hu: NDArray[np.integer], slope: float, intercept: float, *, signed: bool) -> None:
    stored = np.round((hu - intercept) / slope)
    dtype = np.dtype(np.int16 if signed else np.uint16)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, int(signed)
    limits = np.iinfo(dtype)
    ds.PixelData = stored.clip(limits.min, limits.max).astype(dtype).tobytes()


def _set_attributes(ds: Dataset, attributes: dict[str, Any]) -> None:
    for keyword, value in attributes.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)


def _save(ds: Dataset, path: Path, transfer_syntax: str) -> None:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(transfer_syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)


def _ds(value: float) -> str:
    """Return a number as a decimal string (DS) of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.10g}"
