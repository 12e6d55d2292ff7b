from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import SettingsError
from tests.factories import chest_hu, ct_series
from tests.training.datasets.test_dicom import describe, write_seg
from training.datasets.notes import MOST_NAMES, notes
from training.datasets.own import write_first


def test_patients_without_labels_are_counted_and_named(tmp_path: Path) -> None:
    for folder in ("anna/labels", "bert/labels.partial", "carl/study", "runs/own"):
        (tmp_path / folder).mkdir(parents=True)
    said = list(notes(["labels"], tmp_path, without=tmp_path / "runs" / "own"))
    assert said == ["2 of 3 patients have no labels and are left out: bert, carl"]


def test_a_long_list_of_patients_is_cut_short(tmp_path: Path) -> None:
    for number in range(MOST_NAMES + 3):
        (tmp_path / f"p{number:02d}").mkdir()
    (said,) = notes(["labels"], tmp_path, without=tmp_path / "runs")
    assert said.endswith("p09 and 3 more")


def test_labels_that_nobody_corrected_are_counted_and_those_of_the_other_kind_told(tmp_path: Path) -> None:
    for name in ("anna", "bert", "carl"):
        labels = tmp_path / name / "labels"
        labels.mkdir(parents=True)
        for mask in ("lungs", "infection"):
            (labels / f"{mask}.nii.gz").write_bytes(b"first")
        write_first(labels)
    (tmp_path / "carl" / "labels" / "infection.nii.gz").write_bytes(b"corrected")
    hu, _, infection = chest_hu((4, 24, 32))
    images = ct_series(tmp_path / "bert" / "ct", hu)
    write_seg(tmp_path / "bert" / "a.dcm", images, infection[..., None].astype(np.uint8), [describe(1, "infection")])
    run = tmp_path / "run"
    assert list(notes(["labels"], tmp_path, run)) == [
        "2 of 3 patients have NIfTI masks that nobody corrected: anna, bert",
        "of these 1 have corrected DICOM SEG, which --sets dicom reads: bert",
    ]
    assert list(notes(["dicom"], tmp_path, run)) == [
        "2 of 3 patients have DICOM SEG that nobody corrected: anna, carl",
        "of these 1 have corrected NIfTI masks, which --sets labels reads: carl",
    ]


def test_a_missing_folder_of_scans_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected a folder of data sets"):
        list(notes(["dicom"], tmp_path / "missing", without=tmp_path / "run"))
