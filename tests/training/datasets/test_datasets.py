from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from dicom_node.errors import SettingsError
from tests.factories import chest_hu, ct_series
from tests.training.datasets.segmentations import segment, write_seg
from training import datasets
from training.datasets import SAME_PATIENTS
from training.datasets.sample import BadData
from training.label import save_nifti
from worker.geometry import Geometry

STRUCTURES = ("Left lung", "Right lung", "Infection")


def test_an_unknown_data_set_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no data set 'imagenet'"):
        datasets.read("imagenet", tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        datasets.read("medseg100", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["infection-slices", "medseg100", "lung-slices", "covid-19-20", "mosmed", "ct-studies"]
)
def test_a_public_set_that_is_not_there_is_named_with_what_reads_ones_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData, match=f"no data set {name} in .*; your own scans: --sets labels or --sets dicom"):
        list(datasets.read_all([name], tmp_path))
    (tmp_path / name).mkdir()
    with pytest.raises(BadData, match=f"^{tmp_path / name}"):
        list(datasets.read_all([name], tmp_path))


@pytest.mark.parametrize("twins", SAME_PATIENTS)
def test_two_sets_with_the_same_patients_are_not_read_together(tmp_path: Path, twins: frozenset[str]) -> None:
    with pytest.raises(SettingsError, match="have the same patients; name one of them"):
        next(datasets.read_all(["phantom", *twins], tmp_path))


def drawn(folder: Path, seed: int, **attributes: str) -> None:
    """Write a patient's folder: a series of four slices with a SEG of its infection."""
    hu, _, infection = chest_hu((4, 24, 32), seed=seed)
    images = ct_series(folder / "ct", hu, **attributes)
    write_seg(folder / "seg.dcm", images, infection[..., None].astype(np.uint8), [segment(1, "infection")])


def labelled(folder: Path, seed: int, **attributes: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Write a patient's folder: a series of eight slices, with labels as NIfTI and SEG that give each voxel one label.

    Return the masks of the whole lungs and of the infection.
    """
    hu, lungs, infection = chest_hu((8, 24, 32), seed=seed)
    labels = np.where(infection, 3, lungs).astype(np.uint8)
    images = ct_series(folder / "ct", hu, **attributes)
    write_seg(folder / "seg.dcm", images, labels, [segment(n + 1, name) for n, name in enumerate(STRUCTURES)])
    (folder / "labels").mkdir()
    geometry = Geometry(hu.shape, np.diag([6.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]], "")
    for name, array in (("ct", hu), ("lungs", labels * (labels < 3)), ("infection", infection.astype(np.uint8))):
        save_nifti(folder / "labels" / f"{name}.nii.gz", array, geometry)
    return lungs > 0, infection


def test_one_patient_in_two_folders_is_one_patient(tmp_path: Path) -> None:
    for seed, (name, patient, issuer) in enumerate(
        [("a", "7", "north"), ("b", "", ""), ("c", "7", "north"), ("d", "7", "south"), ("e", "", "")]
    ):
        drawn(tmp_path / name, seed, PatientID=patient, IssuerOfPatientID=issuer)
    patients = [sample.patient for sample in datasets.read_all(["dicom"], tmp_path)]
    assert patients == ["a", "b", "a", "d", "e"]


@pytest.mark.parametrize("name", ["dicom", "labels"])
def test_infection_drawn_outside_the_lung_is_part_of_the_lung(tmp_path: Path, name: str) -> None:
    lungs, infection = labelled(tmp_path / "a", 0)
    (sample,) = datasets.read(name, tmp_path)
    assert np.array_equal(sample.mask("lung"), lungs)
    assert np.array_equal(sample.mask("infection"), infection)


def test_a_patient_is_told_by_the_ct_images_whatever_a_segmentation_lacks(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        drawn(tmp_path / name, seed, PatientID="7", IssuerOfPatientID="north")
    seg = tmp_path / "b" / "a-seg.dcm"  # sorts before the images
    (tmp_path / "b" / "seg.dcm").rename(seg)
    ds = dcmread(seg)
    ds.IssuerOfPatientID = ""
    ds.save_as(seg)
    assert [sample.patient for sample in datasets.read_all(["dicom"], tmp_path)] == ["a", "a"]


def test_folders_with_images_of_several_patients_are_named_at_once(tmp_path: Path) -> None:
    for name in "ab":
        ct_series(tmp_path / name / "1", chest_hu((4, 24, 32))[0], PatientID="7")
        ct_series(tmp_path / name / "2", chest_hu((4, 24, 32))[0], PatientID="8")
    with pytest.raises(BadData, match=r"a: holds images of several patients, such as .*\n.*b: holds images of several"):
        datasets.own_patients(["dicom"], tmp_path)


def test_one_patient_in_two_sets_is_one_patient(tmp_path: Path) -> None:
    drawn(tmp_path / "dicom" / "a", 0, PatientID="7")
    labelled(tmp_path / "labels" / "b", 1, PatientID="7")
    assert datasets.own_patients(["dicom", "labels"], tmp_path) == ["a", "a"]
    assert [sample.patient for sample in datasets.read_all(["dicom", "labels"], tmp_path)] == ["a", "a"]


def test_one_image_under_two_names_is_refused(tmp_path: Path) -> None:
    drawn(tmp_path / "a", 0, PatientID="7")
    drawn(tmp_path / "b", 0, PatientID="8")
    with pytest.raises(BadData, match=r"b/.*: has the image of a/"):
        list(datasets.read_all(["dicom"], tmp_path))


def test_all_patients_whose_files_are_faulty_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name / "labels").mkdir(parents=True)
    drawn(tmp_path / "c", 0)
    with pytest.raises(BadData, match=r"a: expected a DICOM SEG, found none\n.*b: expected a DICOM SEG, found none$"):
        list(datasets.read("dicom", tmp_path))
    with pytest.raises(BadData, match=r"a/labels/ct.nii.gz: missing\n.*b/.*missing\n.*c/.*missing"):
        list(datasets.read("labels", tmp_path))


def test_one_series_in_two_folders_is_refused(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        drawn(tmp_path / name, seed, PatientID=name, SeriesInstanceUID="1.2.3")
    with pytest.raises(BadData, match=r"b: the CT series 1\.2\.3 lies in .*a too"):
        list(datasets.read_all(["dicom"], tmp_path))


def test_files_that_no_reader_reads_make_no_data_other_data(tmp_path: Path) -> None:
    drawn(tmp_path / "a", 0)
    (tmp_path / "a" / "labels").mkdir()
    (tmp_path / "a" / "labels" / "infection.nii.gz").touch()
    before = datasets.fingerprint(["dicom", "labels"], tmp_path)
    for name in (".DS_Store", "a/.DS_Store", "a/labels/Thumbs.db", "a/labels/first.json"):
        (tmp_path / name).write_bytes(b"left by a viewer")
    assert datasets.fingerprint(["dicom", "labels"], tmp_path) == before
    (tmp_path / "a" / "labels" / "infection.nii.gz").write_bytes(b"corrected")
    assert datasets.fingerprint(["dicom"], tmp_path) != datasets.fingerprint(["dicom", "labels"], tmp_path) != before
    drawn(tmp_path / "b", 1)
    assert datasets.fingerprint(["dicom"], tmp_path) != before
