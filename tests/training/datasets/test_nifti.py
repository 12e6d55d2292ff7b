import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from tests.factories import ct_series
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


def covid_19_ct_seg(folder: Path, name: str, image: NDArray[np.generic], lungs: int = 1) -> None:
    masks = (("Lung_Mask", np.full(SHAPE, lungs, np.uint8)), ("Infection_Mask", np.zeros(SHAPE, np.uint8)))
    for part, array in (("COVID-19-CT-Seg_20cases", image), *masks):
        save(folder / part / f"{name}.nii.gz", array)


def hounsfield() -> NDArray[np.int16]:
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) - 500


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_slices_run_to_the_head_rows_to_the_back_columns_to_the_left(
    tmp_path: Path, signs: tuple[int, int, int]
) -> None:
    affine = np.diag([*(s * z for s, z in zip(signs, (0.7, 0.8, 5.0), strict=True)), 1.0])
    sample = covid_19_20(tmp_path, hounsfield(), np.zeros(SHAPE, np.uint8), affine=affine)
    # An independent reader, reoriented so that indices increase to the left, to the back and to the head.
    expected = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "Train" / "a_ct.nii.gz")), "LPS")
    assert np.array_equal(sample.image, sitk.GetArrayFromImage(expected))
    assert sample.spacing_mm == pytest.approx((5.0, 0.8, 0.7))


def test_voxels_of_a_tilted_gantry_have_their_true_volume(tmp_path: Path) -> None:
    affine = np.diag([0.7, 0.8, 5.0, 1.0])
    affine[1, 2] = 2  # each slice is shifted along its columns
    assert covid_19_20(tmp_path, hounsfield(), np.zeros(SHAPE, np.uint8), affine=affine).voxel_ml == pytest.approx(
        0.7 * 0.8 * 5 / 1000
    )


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
    # The file's first axis runs to the patient's right, the sample's columns to the left.
    assert sample.mask("left_lung")[..., 0].all()
    assert sample.mask("lung").sum() == 2 * sample.mask("infection").sum() == 30


def test_windowed_scans_of_covid_19_ct_seg_become_hounsfield_units(tmp_path: Path) -> None:
    gray = np.full(SHAPE, 60, np.uint8)
    gray[0], gray[1, 0] = 255, 0
    covid_19_ct_seg(tmp_path, "radiopaedia_4_85506_1", gray)
    (sample,) = datasets.read("covid-19-ct-seg", tmp_path)
    assert (sample.image.min(), sample.image.max()) == (-1250, 250)


def test_two_scans_of_one_case_of_radiopaedia_are_one_patients(tmp_path: Path) -> None:
    names = ("coronacases_001", "radiopaedia_10_85902_1", "radiopaedia_10_85902_3", "radiopaedia_29_86490_1")
    for name in names:
        covid_19_ct_seg(tmp_path, name, np.full(SHAPE, 60, np.uint8) if name[0] == "r" else hounsfield())
    samples = list(datasets.read("covid-19-ct-seg", tmp_path))
    assert [s.patient for s in samples] == ["coronacases_001", "radiopaedia_10", "radiopaedia_10", "radiopaedia_29"]
    assert [s.scan for s in samples] == list(names)


def test_a_scan_without_any_lung_in_its_mask_is_refused(tmp_path: Path) -> None:
    covid_19_ct_seg(tmp_path, "coronacases_001", hounsfield(), lungs=0)
    with pytest.raises(BadData, match=r"coronacases_001.nii.gz: its lung masks are empty"):
        list(datasets.read("covid-19-ct-seg", tmp_path))


def test_labels_in_two_folders_of_one_patient_are_one_patients(tmp_path: Path) -> None:
    for number, (name, patient) in enumerate([("a", "7"), ("b", "8"), ("c", "7")]):
        ct_series(tmp_path / name / "ct", np.zeros((1, 4, 4), np.int16), PatientID=patient)
        for file, array in (("ct", hounsfield() + number), ("lungs", np.ones(SHAPE, np.uint8))):
            save(tmp_path / name / "labels" / f"{file}.nii.gz", array)
        save(tmp_path / name / "labels" / "infection.nii.gz", np.zeros(SHAPE, np.uint8))
    samples = datasets.read_all(["labels"], tmp_path)
    assert [(sample.name, sample.patient) for sample in samples] == [("a", "a"), ("b", "b"), ("c", "a")]


def test_values_of_lung_that_are_not_hu_are_refused(tmp_path: Path) -> None:
    covid_19_ct_seg(tmp_path, "coronacases_001", hounsfield() + 1024)
    with pytest.raises(
        BadData, match=r"coronacases_001.nii.gz: .* of lung the median is 554, expected -1024 to -150 HU"
    ):
        list(datasets.read("covid-19-ct-seg", tmp_path))


def test_infection_drawn_on_air_is_refused(tmp_path: Path) -> None:
    hu = hounsfield()
    hu[:3] = -1000
    with pytest.raises(BadData, match=r"a_ct.nii.gz: .* of infection the median is -1000, expected -900 to 300 HU"):
        covid_19_20(tmp_path, hu, (hu == -1000).astype(np.uint8))


def test_lungs_full_of_infection_are_lungs_all_the_same(tmp_path: Path) -> None:
    hu = hounsfield()
    hu[:3] = 40
    for part, array in (
        ("COVID-19-CT-Seg_20cases", hu),
        ("Lung_Mask", np.ones(SHAPE, np.uint8)),
        ("Infection_Mask", (hu == 40).astype(np.uint8)),
    ):
        save(tmp_path / part / "coronacases_001.nii.gz", array)
    assert len(list(datasets.read("covid-19-ct-seg", tmp_path))) == 1


def test_a_windowed_scan_that_is_in_hu_already_is_refused(tmp_path: Path) -> None:
    covid_19_ct_seg(tmp_path, "radiopaedia_4_85506_1", hounsfield())
    with pytest.raises(BadData, match=r"radiopaedia_4_85506_1.nii.gz: expected 0 to 255 .*, got -500 to -441"):
        list(datasets.read("covid-19-ct-seg", tmp_path))


@pytest.mark.parametrize("value", [2, 255])
def test_a_mask_with_a_value_that_means_nothing_is_refused(value: int, tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1] = value
    with pytest.raises(BadData, match=rf"a_seg.nii.gz: 15 voxels are {value} .* expected 0 and 1 for infection"):
        covid_19_20(tmp_path, hounsfield(), mask)


@pytest.mark.parametrize("sign", [1, -1])  # axes that run the other way are flipped while reading
def test_a_file_that_was_cut_short_is_named(sign: int, tmp_path: Path) -> None:
    path = tmp_path / "Train" / "a_ct.nii.gz"
    noise = np.random.default_rng(0).integers(-1000, 100, (40, 40, 40)).astype(np.int16)
    affine = np.diag([sign * 0.7, sign * 0.8, 5.0, 1.0])
    covid_19_20(tmp_path, noise, np.zeros(noise.shape, np.uint8), affine=affine)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(BadData, match=r"a_ct.nii.gz"):
        list(datasets.read("covid-19-20", tmp_path))


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


@pytest.mark.parametrize(
    ("start", "content"),
    [
        (70, np.int16(12345)),  # the type of the voxels
        (42, np.int16(-4)),  # the length of the first axis
        (280, np.zeros(12, np.float32)),  # the affine
        (280, np.full(12, np.nan, np.float32)),
    ],
)
def test_a_header_that_makes_no_sense_is_named(
    tmp_path: Path, start: int, content: np.generic | NDArray[np.generic]
) -> None:
    covid_19_20(tmp_path, hounsfield(), np.zeros(SHAPE, np.uint8))
    path = tmp_path / "Train" / "a_seg.nii.gz"
    file, written = bytearray(gzip.decompress(path.read_bytes())), content.tobytes()
    file[start : start + len(written)] = written
    path.write_bytes(gzip.compress(file))
    with pytest.raises(BadData, match=r"a_seg.nii.gz: "):
        list(datasets.read("covid-19-20", tmp_path))


def test_voxels_that_are_not_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"a_ct.nii.gz: some voxels are not numbers"):
        covid_19_20(tmp_path, np.full(SHAPE, np.nan, np.float32), np.zeros(SHAPE, np.uint8))


def test_voxels_of_colours_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"a_ct.nii.gz: expected one real number a voxel"):
        covid_19_20(tmp_path, np.zeros(SHAPE, [(c, np.uint8) for c in "RGB"]), np.zeros(SHAPE, np.uint8))
