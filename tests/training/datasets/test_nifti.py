from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from training import datasets
from training.datasets.sample import BadData, Sample

SHAPE = (4, 5, 3)


def save(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([0.7, 0.8, 5.0, 1.0]) if affine is None else affine), path)


def covid_19_20(folder: Path, image: NDArray[np.generic], mask: NDArray[np.generic], **saving: object) -> Sample:
    save(folder / "Train" / "a_ct.nii.gz", image, **saving)
    save(folder / "Train" / "a_seg.nii.gz", mask, **saving)
    (sample,) = datasets.read("covid-19-20", folder)
    return sample


def hounsfield() -> NDArray[np.int16]:
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) - 500


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_slices_run_to_the_head_rows_to_the_back_columns_to_the_left(
    tmp_path: Path, signs: tuple[int, int, int]
) -> None:
    affine = np.diag([*(s * z for s, z in zip(signs, (0.7, 0.8, 5.0), strict=True)), 1.0])
    sample = covid_19_20(tmp_path, hounsfield(), np.zeros(SHAPE, np.uint8), affine=affine)
    # An independent reader, turned to where indices run left, back and up.
    expected = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "Train" / "a_ct.nii.gz")), "LPS")
    assert np.array_equal(sample.image, sitk.GetArrayFromImage(expected))
    assert sample.spacing_mm == pytest.approx((5.0, 0.8, 0.7))


def test_left_and_right_lung_make_the_lung(tmp_path: Path) -> None:
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[0], lungs[3] = 2, 1
    for folder, array in (
        ("COVID-19-CT-Seg_20cases", hounsfield()),
        ("Lung_Mask", lungs),
        ("Infection_Mask", (lungs == 2).astype(np.uint8)),
    ):
        save(tmp_path / folder / "coronacases_001.nii.gz", array)
    (sample,) = datasets.read("covid-19-ct-seg", tmp_path)
    # The first axis of the file runs to the patient's right, columns to the left.
    assert sample.mask("left_lung")[..., 0].all()
    assert sample.mask("lung").sum() == 2 * sample.mask("infection").sum() == 30


def test_windowed_scans_of_covid_19_ct_seg_become_hounsfield_units(tmp_path: Path) -> None:
    gray = np.zeros(SHAPE, np.uint8)
    gray[0] = 255
    for folder, array in (("COVID-19-CT-Seg_20cases", gray), ("Lung_Mask", gray), ("Infection_Mask", gray)):
        save(tmp_path / folder / "radiopaedia_4_85506_1.nii.gz", array)
    (sample,) = datasets.read("covid-19-ct-seg", tmp_path)
    assert (sample.image.min(), sample.image.max()) == (-1250, 250)


def test_mosmed_reads_the_scans_that_have_masks(tmp_path: Path) -> None:
    save(tmp_path / "studies" / "CT-1" / "study_0255.nii.gz", hounsfield())
    save(tmp_path / "studies" / "CT-0" / "study_0001.nii.gz", hounsfield())
    save(tmp_path / "masks" / "study_0255_mask.nii.gz", np.ones(SHAPE, np.uint8))
    (sample,) = datasets.read("mosmed", tmp_path)
    assert sample.patient == "study_0255"
    assert sample.mask("infection").all()


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    save(tmp_path / "Train" / "a_ct.nii.gz", hounsfield())
    with pytest.raises(BadData, match=r"a_seg.nii.gz: missing"):
        list(datasets.read("covid-19-20", tmp_path))


def test_a_mask_of_another_place_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "Train" / "a_ct.nii.gz", hounsfield())
    save(tmp_path / "Train" / "a_seg.nii.gz", np.zeros(SHAPE, np.uint8), np.diag([1.0, 0.8, 5.0, 1.0]))
    with pytest.raises(BadData, match=r"a_seg.nii.gz"):
        list(datasets.read("covid-19-20", tmp_path))


def test_a_file_that_is_no_nifti_is_named(tmp_path: Path) -> None:
    (tmp_path / "Train").mkdir()
    (tmp_path / "Train" / "a_ct.nii.gz").write_bytes(b"not an image")
    with pytest.raises(BadData, match=r"a_ct.nii.gz"):
        list(datasets.read("covid-19-20", tmp_path))


def test_voxels_that_are_not_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"a_ct.nii.gz: some voxels are not numbers"):
        covid_19_20(tmp_path, np.full(SHAPE, np.nan, np.float32), np.zeros(SHAPE, np.uint8))
