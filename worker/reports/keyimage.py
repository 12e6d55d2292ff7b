"""The key image and the trend as DICOM objects: RGB Secondary Captures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from worker.reports import context
from worker.reports.context import Kind, ResultContext
from worker.reports.source import LOSSY_COMPRESSION
from worker.volume import SourceSlice

_DERIVATIONS = {
    context.KEY_IMAGE: "Outlines of lungs and infection, area-plot",
    context.TREND: "Infected volume and proportion over time",
}


def build_key_image(picture: Image.Image, shown: Sequence[SourceSlice], shared: ResultContext, kind: Kind) -> Dataset:
    """Return a picture as Secondary Capture (PS3.3 A.8.1).

    It contains plots and possibly several views, so it has no position, orientation or spacing. The slices in
    ``shown`` are its source images. Burned In Annotation is about text that identifies patient and date: Hilum draws
    none, but the source images that are shown may contain some.
    """
    ds = shared.begin(kind, SecondaryCaptureImageStorage)
    ds.Modality = "OT"
    ds.BodyPartExamined, ds.PatientOrientation = "CHEST", ""
    ds.ImageType = ["DERIVED", "SECONDARY"]
    shows_burned_in = kind is context.KEY_IMAGE and shared.source.first.get("BurnedInAnnotation") == "YES"
    ds.BurnedInAnnotation = "YES" if shows_burned_in else "NO"
    ds.DerivationDescription = _DERIVATIONS[kind]
    ds.SourceImageSequence = [_source_image(where) for where in shown]
    for keyword in LOSSY_COMPRESSION:  # once lossy, always lossy (PS3.3 C.7.6.1.1.5)
        if keyword in shared.source.first:
            ds[keyword] = shared.source.first[keyword]
    _set_pixels(ds, picture)
    shared.complete(ds, kind)
    return ds


def _source_image(shown: SourceSlice) -> Dataset:
    source = context.source_image(shown.sop_class_uid, shown.sop_instance_uid)
    if shown.frame_number is not None:
        source.ReferencedFrameNumber = shown.frame_number
    return source


def _set_pixels(ds: Dataset, picture: Image.Image) -> None:
    rgb = np.asarray(picture.convert("RGB"))
    ds.Rows, ds.Columns = rgb.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    pixels = rgb.tobytes()
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
