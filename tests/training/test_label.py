from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.settings import SelectionSettings, WorkerSettings
from tests.factories import AXIAL, chest_hu, ct_series
from training import datasets
from training.datasets.notes import notes
from training.datasets.sample import BadData
from training.files import LOCK
from training.label import label, label_patient, save_nifti
from worker.models.store import open_network
from worker.pipeline import analyze
from worker.volume import read_volume

SHAPE = (40, 96, 128)


def arguments(folder: Path, method: str = "thresholds") -> Namespace:
    return Namespace(data=folder, method=method)


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    ct_series(tmp_path / "anna" / "ct", chest_hu(SHAPE)[0], BodyPartExamined="CHEST")
    return tmp_path


def test_the_segmentations_are_read_back_as_they_were_found(patients: Path) -> None:
    assert label(arguments(patients)) == 0
    paths = sorted((patients / "anna" / "ct").iterdir())
    _, findings = analyze(paths)
    (sample,) = datasets.read("dicom", patients)
    assert sample.mask("infection").any()
    assert np.array_equal(sample.mask("infection"), findings.infection.array)
    assert np.array_equal(sample.mask("left_lung"), findings.lungs.labels == 1)


def test_brackets_in_a_folders_name_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "anna [copy]").mkdir()
    assert label(arguments(tmp_path)) == 1
    assert f"{tmp_path}/anna [copy]: " in capsys.readouterr().out


def test_the_nifti_masks_are_read_back_as_the_segmentations(patients: Path) -> None:
    label(arguments(patients))
    (from_dicom,) = datasets.read("dicom", patients)
    (from_nifti,) = datasets.read("labels", patients)
    assert from_nifti.patient == "anna"
    assert np.array_equal(from_nifti.image, from_dicom.image)
    for structure in ("left_lung", "right_lung", "infection"):
        assert np.array_equal(from_nifti.mask(structure), from_dicom.mask(structure))


def test_the_network_gives_first_labels_where_it_is_asked_for(patients: Path) -> None:
    assert label(arguments(patients, "network")) == 0
    paths = sorted((patients / "anna" / "ct").iterdir())
    _, findings = analyze(paths, open_network(WorkerSettings()))
    (sample,) = datasets.read("labels", patients)
    assert np.array_equal(sample.mask("left_lung"), findings.lungs.labels == 1)
    assert not np.array_equal(sample.mask("left_lung"), analyze(paths)[1].lungs.labels == 1)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((80, 96, 128), {"spacing_mm": (3, 3, 3), "ConvolutionKernel": "B70f"}),
        ((90, 40, 128), {"orientation": (1, 0, 0, 0, 0, -1)}),
    ],
    ids=["sharp", "coronal"],
)
def test_the_labels_are_of_the_series_that_a_worker_measures(
    patients: Path, shape: tuple[int, int, int], attributes: dict[str, Any]
) -> None:
    ct_series(patients / "anna" / "more-slices", chest_hu(shape)[0], BodyPartExamined="CHEST", **attributes)
    assert label(arguments(patients)) == 0
    series = dcmread(next((patients / "anna" / "ct").iterdir())).SeriesInstanceUID
    (sample,) = datasets.read("dicom", patients)
    assert sample.name == f"anna/{series}"


@pytest.mark.parametrize("orientation", [AXIAL, (1, 0, 0, 0, 0, -1), (0.96, 0.28, 0, -0.28, 0.96, 0)])
def test_nifti_voxels_lie_where_the_dicom_ones_do(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    paths = ct_series(tmp_path / "ct", chest_hu((6, 24, 32))[0], orientation=orientation)
    volume = read_volume(paths)
    save_nifti(tmp_path / "ct.nii.gz", volume.hu, volume.geometry)
    image = sitk.ReadImage(str(tmp_path / "ct.nii.gz"))
    assert image.GetMetaData("xyzt_units") == "2"  # millimetres
    # SimpleITK's points are in the LPS frame, and its indices run (column, row, slice).
    for index in ((0, 0, 0), (5, 3, 7), (2, 20, 30)):
        point = image.TransformIndexToPhysicalPoint(index[::-1])
        assert point == pytest.approx(volume.geometry.to_patient(np.array([index]))[0], abs=1e-2)
        assert image[index[::-1]] == volume.hu[index]


def test_the_newest_segmentation_of_a_structure_stands(patients: Path) -> None:
    label(arguments(patients))
    dirty = dcmread(patients / "anna" / "labels" / "infection.dcm")
    corrected = dcmread(patients / "anna" / "labels" / "infection.dcm")
    corrected.SOPInstanceUID = corrected.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    corrected.ContentDate = "99991231"
    corrected.PixelData = bytes(len(dirty.PixelData))
    corrected.save_as(patients / "anna" / "corrected.dcm")
    (sample,) = datasets.read("dicom", patients)
    assert not sample.mask("infection").any()
    assert sample.mask("lung").any()


@pytest.mark.parametrize("manufacturer", ["Unspecified", "Hilum"])
def test_a_correction_stands_however_early_its_clock_puts_it(patients: Path, manufacturer: str) -> None:
    label(arguments(patients))
    corrected = dcmread(patients / "anna" / "labels" / "infection.dcm")
    corrected.SOPInstanceUID = corrected.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    corrected.Manufacturer = manufacturer  # OHIF writes "Unspecified"; other viewers may keep "Hilum"
    corrected.ContentDate = "20200101"
    corrected.PixelData = bytes(len(corrected.PixelData))
    corrected.save_as(patients / "anna" / "corrected.dcm")
    (sample,) = datasets.read("dicom", patients)
    assert not sample.mask("infection").any()


@pytest.mark.parametrize(
    ("parts", "stands"), [(("Consolidation",), True), (("Consolidation", "Ground glass opacity"), False)]
)
def test_infection_drawn_anew_in_all_its_parts_replaces_the_whole(
    patients: Path, parts: tuple[str, ...], stands: bool
) -> None:
    label(arguments(patients))
    for number, part in enumerate(parts):
        drawn = dcmread(patients / "anna" / "labels" / "infection.dcm")
        drawn.SOPInstanceUID = drawn.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        drawn.ContentDate = "99991231"
        drawn.SegmentSequence[0].SegmentLabel = part
        drawn.PixelData = bytes(len(drawn.PixelData))
        drawn.save_as(patients / "anna" / f"{number}.dcm")
    (sample,) = datasets.read("dicom", patients)
    assert bool(sample.mask("infection").any()) == stands


def test_a_part_drawn_after_the_whole_infection_belongs_to_it(patients: Path) -> None:
    label(arguments(patients))
    drawn = dcmread(patients / "anna" / "labels" / "infection.dcm")
    drawn.SOPInstanceUID = drawn.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    drawn.SegmentSequence[0].SegmentLabel = "Consolidation"
    drawn.PixelData = b"\xff" * len(drawn.PixelData)
    drawn.save_as(patients / "anna" / "drawn.dcm")
    (sample,) = datasets.read("dicom", patients)
    outside = sample.mask("consolidation") & (sample.image > 0)
    assert outside.any()
    assert sample.mask("infection")[outside].all()


def test_labels_are_not_overwritten(patients: Path) -> None:
    folder = label_patient(patients / "anna", SelectionSettings())
    written = (folder / "infection.dcm").read_bytes()
    with pytest.raises(BadData, match="there already"):
        label_patient(patients / "anna", SelectionSettings())
    assert (folder / "infection.dcm").read_bytes() == written


def test_patients_added_later_are_labelled_and_the_others_counted(
    patients: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(arguments(patients))
    ct_series(patients / "bert", chest_hu(SHAPE, seed=1)[0], BodyPartExamined="CHEST")
    capsys.readouterr()
    assert label(arguments(patients)) == 0
    assert (patients / "bert" / "labels").is_dir()
    said = capsys.readouterr().out
    assert "1 of 2 patients were labelled before" in said
    assert "anna" not in said


def test_a_failure_half_way_leaves_no_labels(patients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("training.label.save_nifti", fail)
    with pytest.raises(OSError, match="disk full"):
        label_patient(patients / "anna", SelectionSettings())
    assert [path.name for path in (patients / "anna").iterdir()] == ["ct"]


def test_labels_that_a_kill_broke_off_are_begun_anew(patients: Path) -> None:
    (patients / "anna" / "labels.partial").mkdir()
    (patients / "anna" / "labels.partial" / "left-lung.dcm").write_bytes(b"half of it")
    assert label(arguments(patients)) == 0
    assert sorted(path.name for path in (patients / "anna").iterdir()) == ["ct", "labels"]
    names = {path.name for path in (patients / "anna" / "labels").iterdir()}
    assert names == {"lungs.dcm", "infection.dcm", "ct.nii.gz", "lungs.nii.gz", "infection.nii.gz", "first.json"}
    said = [f"1 of 1 patients have NIfTI masks of {what} that nobody corrected: anna" for what in ("lung", "infection")]
    assert list(notes(["labels"], patients)) == said


def test_labels_that_a_kill_broke_off_are_not_read(patients: Path) -> None:
    label(arguments(patients))
    (patients / "anna" / "labels").rename(patients / "anna" / "labels.partial")
    with pytest.raises(BadData, match="anna: expected a DICOM SEG"):
        list(datasets.read("dicom", patients))


def test_a_patient_whose_labels_lack_the_ct_is_named(patients: Path) -> None:
    label(arguments(patients))
    (patients / "bert" / "labels").mkdir(parents=True)
    with pytest.raises(BadData, match=r"bert/labels/ct.nii.gz: missing"):
        list(datasets.read("labels", patients))


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_folder_of_data_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadData, match=f"{name}: expected a folder"):
        label(arguments(tmp_path / name))


def test_a_scan_that_is_linked_to_is_labelled_and_read(
    patients: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = tmp_path_factory.mktemp("archive") / "ct"
    (patients / "anna" / "ct").rename(archive)
    (patients / "anna" / "ct").symlink_to(archive)
    assert label(arguments(patients)) == 0
    assert len(list(datasets.read("dicom", patients))) == 1


def test_a_patients_own_folder_is_refused_for_that_of_all_patients(patients: Path) -> None:
    name = r"anna/ct: expected a folder of DICOM for each patient, found DICOM itself; .* the folder above"
    with pytest.raises(BadData, match=name):
        label(arguments(patients / "anna" / "ct"))
    with pytest.raises(BadData, match=name):
        list(datasets.read("dicom", patients / "anna" / "ct"))


def test_a_patient_that_cannot_be_read_does_not_stop_the_others(
    patients: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (patients / "aaron").mkdir()
    assert label(arguments(patients)) == 1
    assert "aaron" in capsys.readouterr().out
    assert (patients / "anna" / "labels" / "lungs.dcm").exists()


def test_a_patient_whose_folder_cannot_be_written_does_not_stop_the_others(
    patients: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct_series(patients / "bert" / "ct", chest_hu(SHAPE)[0], BodyPartExamined="CHEST")
    (patients / "anna" / "labels.partial").touch()
    assert label(arguments(patients)) == 1
    assert "anna: cannot be labelled: " in capsys.readouterr().out
    assert (patients / "bert" / "labels" / "lungs.dcm").exists()


def test_the_folders_of_runs_are_no_patients(patients: Path) -> None:
    for run in (patients / "run", patients / "RUNS" / "own", patients / "anna" / "run"):
        run.mkdir(parents=True)
        (run / LOCK).touch()
    assert label(arguments(patients)) == 0
    assert [sample.patient for sample in datasets.read("dicom", patients)] == ["anna"]
