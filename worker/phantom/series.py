"""The phantom as a DICOM series, and its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from worker.findings import Lungs, Mask, Site
from worker.geometry import Geometry
from worker.phantom.chest import COLUMNS, FIELD_OF_VIEW_MM, Chest, build_chest

INTERCEPT_HU = -1024


@dataclass(frozen=True)
class Truth:
    """The ground truth of the phantom, on the geometry of its series, and the files of the series."""

    lungs: Lungs
    infection: Mask
    paths: tuple[Path, ...]

    def lung_volume_ml(self, site: Site) -> float:
        """Volume of lung, with infection and pulmonary vessels, without trachea, bronchi, aorta and vena cava."""
        return self._lung(site).volume_ml

    def infection_volume_ml(self, site: Site) -> float:
        """Volume of ground-glass opacity and consolidation."""
        return Mask(self._lung(site).array & self.infection.array, self.lungs.geometry).volume_ml

    def infected_percent(self, site: Site) -> float:
        """Proportion of infected region (PoIR), Wu et al. 2020, eq. 2."""
        return 100.0 * self.infection_volume_ml(site) / self.lung_volume_ml(site)

    def _lung(self, site: Site) -> Mask:
        return self.lungs.both if site == "both" else self.lungs.side(site)


def write_phantom(folder: Path, *, seed: int = 1, slices: int = 120) -> Truth:
    """Write a chest CT 300 mm long as CT Image Storage, and return its ground truth.

    Parameters
    ----------
    folder : Path
        Created if absent. The series is written into it, one file per instance.
    seed : int
        Determines lesions, vessels and noise. The same seed and number of slices give the same bytes, UIDs included.
    slices : int
        Number of slices into which the 300 mm are divided.

    Notes
    -----
    Values are sampled at the middle of a slice, not averaged over it: vessels look sharper along z than a
    scanner would show them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chest = build_chest(seed, slices)
    header = _shared_header(chest, seed, slices)
    geometry = _geometry(chest, header.FrameOfReferenceUID)
    paths = []
    for index, plane in enumerate(chest.hu):
        ds = Dataset()
        ds.update(header)
        ds.SOPInstanceUID = _uid(seed, slices, f"instance {index}")
        ds.InstanceNumber = slices - index  # scanned from the head down
        ds.ImagePositionPatient = [f"{value:.4f}" for value in geometry.affine[:3, 3] + index * geometry.affine[:3, 0]]
        ds.SliceLocation = f"{geometry.affine[2, 3] + index * geometry.affine[2, 0]:.4f}"
        ds.PixelData = (plane - INTERCEPT_HU).astype("<u2").tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"ct-{ds.InstanceNumber:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return Truth(Lungs(chest.lungs, geometry), Mask(chest.infection, geometry), tuple(paths))


def _geometry(chest: Chest, frame_of_reference_uid: str) -> Geometry:
    """Return the geometry of an axial volume centred on the origin, with z from -150 to 150 mm."""
    slice_mm, row_mm, column_mm = chest.spacing_mm
    depth, height, width = chest.hu.shape
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slice_mm, row_mm, column_mm, 1
    affine[:3, 3] = -(width - 1) / 2 * column_mm, -(height - 1) / 2 * row_mm, -(depth - 1) / 2 * slice_mm
    return Geometry((depth, height, width), affine, frame_of_reference_uid)


def _shared_header(chest: Chest, seed: int, slices: int) -> Dataset:
    slice_mm, row_mm, column_mm = chest.spacing_mm
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240101"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.AccessionNumber = f"PHANTOM{seed}"
    ds.Modality = "CT"
    ds.Manufacturer, ds.ManufacturerModelName = "Hilum", "Chest phantom"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0", "1"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = "Synthetic chest phantom", f"Chest {slice_mm:g} mm, not a patient"
    ds.PatientName, ds.PatientID = "Phantom^Synthetic chest", f"HILUM-PHANTOM-{seed}"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.BodyPartExamined, ds.PatientPosition = "CHEST", "HFS"
    ds.KVP, ds.SliceThickness = "120", f"{slice_mm:.4f}"
    ds.DataCollectionDiameter = ds.ReconstructionDiameter = f"{FIELD_OF_VIEW_MM:g}"
    ds.GantryDetectorTilt, ds.ConvolutionKernel = "0", "SYNTHETIC"
    ds.StudyInstanceUID = _uid(seed, slices, "study")
    ds.SeriesInstanceUID = _uid(seed, slices, "series")
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = str(seed), 1, 1
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = _uid(seed, slices, "frame of reference"), ""
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = COLUMNS
    ds.PixelSpacing = [f"{row_mm:.6f}", f"{column_mm:.6f}"]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.WindowCenter, ds.WindowWidth = ["-600", "40"], ["1500", "400"]
    ds.WindowCenterWidthExplanation = ["Lung", "Soft tissue"]
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(INTERCEPT_HU), "1", "HU"
    return ds


def _uid(seed: int, slices: int, what: str) -> UID:
    return UID(f"2.25.{uuid5(NAMESPACE_OID, f'hilum phantom 1 | {seed} | {slices} | {what}').int}")
