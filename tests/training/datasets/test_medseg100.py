from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import datasets
from training.datasets.sample import BadData
from training.experiments.papers.saood import TARGETS
from training.fit.losses import median_frequency_weights


def write(folder: Path, image: np.ndarray, classes: np.ndarray) -> Path:
    images = folder / "dataset" / "im" / "256"
    masks = folder / "dataset" / "mask" / "multi" / "256"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    Image.fromarray(image).save(images / "i001.png")
    Image.fromarray(classes).save(masks / "tr_mask_z001.png")
    return masks / "tr_mask_z001.png"


def test_gray_values_of_the_mask_are_the_classes(tmp_path: Path) -> None:
    write(tmp_path, np.full((2, 2), 9, np.uint8), np.array([[0, 85], [170, 255]], np.uint8))
    (sample,) = datasets.read("medseg100", tmp_path)
    assert sample.patient is None
    assert np.argwhere(sample.mask("ground_glass_opacity")[0]).tolist() == [[0, 1]]
    assert np.argwhere(sample.mask("consolidation")[0]).tolist() == [[1, 0]]
    assert np.argwhere(sample.mask("pleural_effusion")[0]).tolist() == [[1, 1]]


def test_pleural_effusion_is_no_infection(tmp_path: Path) -> None:
    write(tmp_path, np.full((2, 2), 9, np.uint8), np.array([[0, 85], [170, 255]], np.uint8))
    (sample,) = datasets.read("medseg100", tmp_path)
    assert sample.mask("infection")[0].tolist() == [[False, True], [True, False]]


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    mask = write(tmp_path, np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    mask.unlink()
    with pytest.raises(BadData, match=r"tr_mask_z001.png: missing"):
        list(datasets.read("medseg100", tmp_path))


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    write(tmp_path, np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(BadData, match=r"tr_mask_z001.png: \(2, 3\) pixels, its image has \(2, 2\)"):
        list(datasets.read("medseg100", tmp_path))


@pytest.mark.parametrize("content", [b"", b"no image", "cut off"])
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    mask = write(tmp_path, np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8))
    mask.write_bytes(content if isinstance(content, bytes) else mask.read_bytes()[:50])
    with pytest.raises(BadData, match=r"tr_mask_z001.png: not a whole image"):
        list(datasets.read("medseg100", tmp_path))


def test_an_image_with_any_damaged_byte_is_read_or_named(tmp_path: Path) -> None:
    mask = write(tmp_path, np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    whole = mask.read_bytes()
    for place in range(len(whole)):
        for value in (0, 1, 85, 255):
            mask.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            with suppress(BadData):
                list(datasets.read("medseg100", tmp_path))


def test_a_gray_value_that_is_no_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, np.zeros((2, 2), np.uint8), np.full((2, 2), 3, np.uint8))
    with pytest.raises(BadData, match=r"tr_mask_z001.png: expected gray values 0, 85, 170 and 255, got \[3\]"):
        list(datasets.read("medseg100", tmp_path))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="expected files"):
        list(datasets.read("medseg100", tmp_path))


@pytest.mark.data
def test_the_real_slices_have_the_median_frequency_weights_of_the_paper(shared_data: Path) -> None:
    # The paper's weights are those of the masks of 512x512; the masks of 256x256 read here differ a little.
    labels = [
        torch.from_numpy(TARGETS["multi"].label_map(sample)) for sample in datasets.read("medseg100", shared_data)
    ]
    weights = median_frequency_weights(labels, 4)
    assert len(labels) == 100
    assert weights == pytest.approx([0.0410, 0.8031, 1.3249, 7.3023], rel=0.01)
