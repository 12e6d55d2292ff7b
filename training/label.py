"""First labels for annotators to correct, from HU (Wu et al. 2020, "Use the value of HU") or by a network.

::

    PATIENT/...             the CT, as it lies there
    PATIENT/labels/         lungs.dcm, infection.dcm (DICOM SEG), and
                            ct.nii.gz, lungs.nii.gz (1 left, 2 right), infection.nii.gz (1),
                            first.json (what the masks were before anybody corrected them)

Viewers open one kind or the other. The data set ``dicom`` reads corrected segmentations, saved anywhere in PATIENT, in
preference to the first labels. The data set ``labels`` reads corrected NIfTI masks, saved under the same names.
"""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from dicom_node.errors import RejectedInput
from dicom_node.folder import files_in
from dicom_node.headers import read_series
from dicom_node.settings import SelectionSettings, load_settings
from training.datasets.dicom import folders
from training.datasets.own import LABELS, write_first
from training.datasets.sample import BadData
from training.files import filling
from worker.findings import Findings
from worker.geometry import Geometry
from worker.method import choose_method
from worker.pipeline import THRESHOLDS, Method, analyze
from worker.prior import choose_series
from worker.reports.context import ResultContext, result_key
from worker.reports.labelmap import label_maps
from worker.reports.seg import build_segmentation
from worker.reports.source import source_of
from worker.volume import Volume


def label(arguments: Namespace) -> int:
    """Write first labels for each patient's folder; report a folder without a usable CT, and continue with the next."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    patients = patients_in(arguments.data)
    unlabelled = [patient for patient in patients if not (patient / LABELS).exists()]
    if unlabelled != patients:
        before = f"{len(patients) - len(unlabelled)} of {len(patients)} patients were labelled before"
        console.print(f"{before}; remove PATIENT/{LABELS} to label one again")
    settings = load_settings()
    method = choose_method(settings.worker.model_copy(update={"method": arguments.method}))
    failures = 0
    for patient in unlabelled:
        try:
            folder = label_patient(patient, settings.selection, method)
        except (RejectedInput, OSError) as error:
            failures += 1
            why = error.message if isinstance(error, RejectedInput) else f"cannot be labelled: {error}"
            console.print(f"{patient}: {why}", style="red")
        else:
            console.print(f"{folder}")
    return 1 if failures else 0


def patients_in(data: Path) -> list[Path]:
    """Return the patients' folders; those of runs are left out.

    Raises
    ------
    BadData
        When there are none, DICOM lies beside them, or the folder of the data cannot be read.
    """
    expected = f"{data}: expected a folder with a folder of DICOM for each patient"
    try:
        patients = folders(data)
    except OSError as error:
        raise BadData("no-folder", f"{expected}; it cannot be read: {error.strerror}") from error
    if not patients:
        raise BadData("missing-file", f"{expected}, found none")
    return patients


def label_patient(patient: Path, selection: SelectionSettings, method: Method = THRESHOLDS) -> Path:
    """Write first labels of the series that a worker would measure and return their folder.

    Raises
    ------
    BadData
        When labels are there already: they may be corrected ones.
    RejectedInput
        When there is no series that can be measured.
    """
    folder = patient / LABELS
    if folder.exists():
        raise BadData("labels-there", f"{folder} is there already; remove it to label again")
    series = read_series(files_in(patient))
    volume, findings = analyze(choose_series(series, selection), method)
    with filling(folder) as partial:
        write_segmentations(volume, findings, partial)
        save_nifti(partial / "ct.nii.gz", volume.hu, volume.geometry)
        save_nifti(partial / "lungs.nii.gz", findings.lungs.labels, volume.geometry)
        save_nifti(partial / "infection.nii.gz", findings.infection.array.astype(np.uint8), volume.geometry)
        write_first(partial)
    return folder


def write_segmentations(volume: Volume, findings: Findings, folder: Path) -> None:
    """Write a DICOM SEG of the lungs and one of the infection, each where there is any."""
    source = source_of(volume)
    key = result_key(source, findings.algorithm, volume=volume, settings=(("purpose", "first labels"),))
    shared = ResultContext(source, findings.algorithm, key, datetime.now(UTC))
    for label_map in label_maps(findings):
        segmentation = build_segmentation(volume, label_map, shared)
        segmentation.save_as(folder / f"{label_map.kind.name}.dcm", enforce_file_format=True)


def save_nifti(path: Path, array: NDArray[np.int16] | NDArray[np.uint8], geometry: Geometry) -> None:
    """Write an array (slice, row, column) of a geometry as NIfTI, whose x and y axes point opposite to DICOM's."""
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    # NIfTI's first index is the column, so the order of axes is reversed, in the array and in the affine.
    affine = to_ras @ geometry.affine[:, [2, 1, 0, 3]]
    image = nibabel.nifti1.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    nibabel.loadsave.save(image, path)
