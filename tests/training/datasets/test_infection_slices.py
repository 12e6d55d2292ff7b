from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import datasets
from training.datasets.sample import BadData

UPRIGHT = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def write(folder: Path, volume: str, lying: np.ndarray) -> None:
    for name in ("image", "lung", "infection"):
        (folder / name).mkdir()
    (folder / "index.csv").write_text(
        f"name,patient,volume,slice_index,image\n{volume}_07,someone,{volume},07,{volume}_07.png\n"
    )
    (folder / "pseudo_hu.csv").write_text(
        "volume,hu_at_gray0,hu_per_gray,basis\ncoronacases_001,-1024,10,x\nradiopaedia_*,-1250,5,y\n"
    )
    Image.fromarray(lying).save(folder / "image" / f"{volume}_07.png")
    for name in ("lung", "infection"):
        Image.fromarray(np.where(lying > 100, 255, 0).astype(np.uint8)).save(folder / name / f"{volume}_07.png")


def test_coronacases_stand_up_by_a_quarter_turn(tmp_path: Path) -> None:
    write(tmp_path, "coronacases_001", np.rot90(UPRIGHT, -1).copy())
    (sample,) = datasets.read("infection-slices", tmp_path)
    assert (sample.patient, sample.scan, sample.position) == ("someone", "coronacases_001", 7)
    assert np.array_equal(sample.image[0], -1024 + 10 * UPRIGHT.astype(int))
    assert np.array_equal(sample.mask("infection")[0], UPRIGHT > 100)
    assert sample.slice_mm == 1.0


def test_radiopaedia_slices_are_mirrored_too_and_calibrated_by_themselves(tmp_path: Path) -> None:
    upright = np.full((40, 40), 220, np.uint8)
    upright[5:15] = 40
    lying = np.rot90(upright[::-1], -1).copy()
    write(tmp_path, "radiopaedia_27_0", lying)
    Image.fromarray(np.where(lying < 100, 255, 0).astype(np.uint8)).save(tmp_path / "lung" / "radiopaedia_27_0_07.png")
    (sample,) = datasets.read("infection-slices", tmp_path)
    assert sample.image[0, 10, 10] == pytest.approx(-930, abs=15)
    assert sample.image[0, 30, 10] == pytest.approx(45, abs=15)
    assert sample.slice_mm is None


def test_a_volume_without_a_gray_scale_is_named(tmp_path: Path) -> None:
    write(tmp_path, "coronacases_009", UPRIGHT)
    with pytest.raises(BadData, match="no row for the volume coronacases_009"):
        list(datasets.read("infection-slices", tmp_path))


@pytest.mark.parametrize("name", ["index.csv", "pseudo_hu.csv"])
@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_a_table_without_its_columns_is_named(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, "coronacases_001", UPRIGHT)
    (tmp_path / name).write_text(content)
    with pytest.raises(BadData, match=f"{name}: expected rows with the columns"):
        list(datasets.read("infection-slices", tmp_path))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("index.csv", ",07,", ",seven,"), ("pseudo_hu.csv", "-1024", "dark"), ("pseudo_hu.csv", "1,-1024,10", "1,-1024,")],
)
def test_a_table_without_a_number_is_named(tmp_path: Path, name: str, right: str, wrong: str) -> None:
    write(tmp_path, "coronacases_001", UPRIGHT)
    table = tmp_path / name
    table.write_text(table.read_text().replace(right, wrong))
    with pytest.raises(BadData, match=f"{name}: expected a number as "):
        list(datasets.read("infection-slices", tmp_path))


def test_a_table_in_another_encoding_is_named(tmp_path: Path) -> None:
    write(tmp_path, "coronacases_001", UPRIGHT)
    (tmp_path / "index.csv").write_bytes(b"name,patient,volume,slice_index,image\nM\xfcller")
    with pytest.raises(BadData, match=r"index.csv: expected a table in UTF-8"):
        list(datasets.read("infection-slices", tmp_path))


def test_a_slice_without_lung_cannot_be_calibrated_and_is_named(tmp_path: Path) -> None:
    write(tmp_path, "radiopaedia_27_0", np.full((40, 40), 20, np.uint8))
    with pytest.raises(BadData, match=r"radiopaedia_27_0_07.png: its lung mask is empty"):
        list(datasets.read("infection-slices", tmp_path))


def test_a_uniform_slice_cannot_be_calibrated_and_is_named(tmp_path: Path) -> None:
    uniform = np.full((40, 40), 200, np.uint8)
    write(tmp_path, "radiopaedia_27_0", uniform)
    lower_half = np.where(np.arange(40)[:, None] < 20, 0, np.full((40, 40), 255, np.uint8))
    Image.fromarray(lower_half).save(tmp_path / "lung" / "radiopaedia_27_0_07.png")
    with pytest.raises(BadData, match=r"radiopaedia_27_0_07.png: lung \(gray 200\) is no darker than soft tissue"):
        list(datasets.read("infection-slices", tmp_path))


@pytest.mark.data
def test_the_real_slices_are_of_nine_patients_in_one_gray_scale(shared_data: Path) -> None:
    samples = list(datasets.read("infection-slices", shared_data))
    healthy = [float(np.median(s.image[s.mask("lung") & ~s.mask("infection")])) for s in samples[::20]]
    assert len(samples) == 605
    assert len({s.patient for s in samples}) == 9
    assert min(healthy) > -920
    assert max(healthy) < -650


@pytest.mark.parametrize("name", ["lung", "infection"])
def test_a_mask_of_other_levels_is_not_taken_for_an_empty_one(tmp_path: Path, name: str) -> None:
    write(tmp_path, "coronacases_001", UPRIGHT)
    path = tmp_path / name / "coronacases_001_07.png"
    Image.fromarray((UPRIGHT > 100).astype(np.uint8)).save(path)
    with pytest.raises(BadData, match=rf"{name}/coronacases_001_07\.png: expected a mask of 0 and 255, got 1"):
        list(datasets.read("infection-slices", tmp_path))
