from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import datasets
from training.datasets.sample import BadData


def write(folder: Path, gray: np.ndarray, lung: np.ndarray, classes: np.ndarray) -> None:
    for name, array in (("image", gray), ("lung", lung), ("classes", classes)):
        (folder / name).mkdir()
        Image.fromarray(array.astype(np.uint8)).save(folder / name / "000.png")


def chest(window_lower: float, window_upper: float) -> tuple[np.ndarray, np.ndarray]:
    lung = np.zeros((40, 40), np.uint8)
    lung[10:30, 10:30] = 1
    hu = np.where(lung, -930, 45)
    return np.rint((hu - window_lower) / (window_upper - window_lower) * 255), lung


@pytest.mark.parametrize("window", [(-1250, 250), (-1100, 300), (-1350, 150)])
def test_one_gray_scale_comes_out_of_any_window(tmp_path: Path, window: tuple[float, float]) -> None:
    gray, lung = chest(*window)
    write(tmp_path, gray, lung, np.zeros_like(lung))
    (sample,) = datasets.read("medseg-chest", tmp_path)
    assert np.median(sample.image[sample.mask("lung")]) == pytest.approx(-930, abs=15)
    assert np.median(sample.image[~sample.mask("lung")]) == pytest.approx(45, abs=15)


def test_columns_run_from_the_patients_right_to_the_left_unlike_in_the_files(tmp_path: Path) -> None:
    gray, lung = chest(-1250, 250)
    lung[:, 25:] = 0  # the file shows the patient's left side on the left
    classes = np.zeros_like(lung)
    classes[10:15, 10:15] = 1
    write(tmp_path, gray, lung, classes)
    (sample,) = datasets.read("medseg-chest", tmp_path)
    assert np.array_equal(sample.mask("lung")[0], lung[:, ::-1] > 0)
    assert np.array_equal(sample.mask("ground_glass_opacity")[0], classes[:, ::-1] > 0)
    assert sample.image[0, 20, 10] < sample.image[0, 20, 5]


def test_a_label_that_is_no_class_is_refused(tmp_path: Path) -> None:
    gray, lung = chest(-1250, 250)
    write(tmp_path, gray, lung, lung * 7)
    with pytest.raises(BadData, match=r"000.png: expected labels 0 to 3, got 7"):
        list(datasets.read("medseg-chest", tmp_path))


def test_masks_of_another_shape_are_refused(tmp_path: Path) -> None:
    gray, lung = chest(-1250, 250)
    write(tmp_path, gray, lung[1:], lung)
    with pytest.raises(BadData, match=r"000.png"):
        list(datasets.read("medseg-chest", tmp_path))
