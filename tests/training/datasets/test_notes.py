from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import SettingsError
from tests.factories import chest_hu, ct_series
from tests.training.datasets.segmentations import make_hilums, segment, write_seg
from training.datasets.notes import MOST_NAMES, notes
from training.datasets.own import write_first
from training.files import LOCK


def test_patients_without_labels_are_counted_and_named(tmp_path: Path) -> None:
    for folder in ("anna/labels", "bert/labels.partial", "carl/study"):
        (tmp_path / folder).mkdir(parents=True)
    said = list(notes(["labels"], tmp_path))
    assert said == ["2 of 3 patients have no labels and are left out: bert, carl"]


def test_folders_of_runs_count_as_no_patients(tmp_path: Path) -> None:
    for folder in ("anna/labels", "run/split-0", "old/runs/own"):
        (tmp_path / folder).mkdir(parents=True)
    for run in ("run", "old/runs/own"):
        (tmp_path / run / LOCK).touch()
    (tmp_path / "bert").mkdir()
    assert list(notes(["labels"], tmp_path)) == ["1 of 2 patients have no labels and are left out: bert"]


def test_a_long_list_of_patients_is_cut_short(tmp_path: Path) -> None:
    for number in range(MOST_NAMES + 3):
        (tmp_path / f"p{number:02d}").mkdir()
    (said,) = notes(["labels"], tmp_path)
    assert said.endswith("p09 and 3 more")


def first_labels(patient: Path, images: Sequence[Path], infection: NDArray[np.bool_]) -> None:
    """Write first labels as ``hilum label`` does: a SEG of Hilum's own, and NIfTI masks with their hashes."""
    labels = patient / "labels"
    labels.mkdir(parents=True)
    masks = np.where(infection, 2, 1).astype(np.uint8)
    write_seg(labels / "first.dcm", images, masks, [segment(1, "Lung"), segment(2, "Infection")])
    make_hilums(labels / "first.dcm")
    for mask in ("lungs", "infection"):
        (labels / f"{mask}.nii.gz").write_bytes(b"first")
    write_first(labels)


def test_labels_that_nobody_corrected_are_counted_and_those_of_the_other_kind_told(tmp_path: Path) -> None:
    hu, _, infection = chest_hu((4, 24, 32))
    images = ct_series(tmp_path / "ct", hu)
    data = tmp_path / "data"
    for name in ("anna", "bert", "carl"):
        first_labels(data / name, images, infection)
    (data / "carl" / "labels" / "infection.nii.gz").write_bytes(b"corrected")
    write_seg(data / "bert" / "a.dcm", images, infection[..., None].astype(np.uint8), [segment(1, "Consolidation")])
    assert list(notes(["labels"], data)) == [
        "3 of 3 patients have NIfTI masks of lung that nobody corrected: anna, bert, carl",
        "2 of 3 patients have NIfTI masks of infection that nobody corrected: anna, bert",
        "of these 1 have corrected DICOM SEG, which --sets dicom reads: bert",
    ]
    assert list(notes(["dicom"], data)) == [
        "3 of 3 patients have DICOM SEG of lung that nobody corrected: anna, bert, carl",
        "2 of 3 patients have DICOM SEG of infection that nobody corrected: anna, carl",
        "of these 1 have corrected NIfTI masks, which --sets labels reads: carl",
    ]


def test_segments_that_are_left_out_are_named(tmp_path: Path) -> None:
    hu, _, infection = chest_hu((4, 24, 32))
    images = ct_series(tmp_path / "anna" / "ct", hu)
    masks = np.where(infection, 2, 1).astype(np.uint8)
    write_seg(tmp_path / "anna" / "a.dcm", images, masks, [segment(1, "Lung"), segment(2, "GGO")])
    assert list(notes(["dicom"], tmp_path)) == [
        f"{tmp_path}/anna/a.dcm: left out, because Hilum knows no structure called GGO"
    ]


def test_a_missing_folder_of_scans_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected a folder of data sets"):
        list(notes(["dicom"], tmp_path / "missing"))
