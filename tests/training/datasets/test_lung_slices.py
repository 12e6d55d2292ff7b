from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from training import datasets
from training.datasets.sample import BadData


def compressed_chest() -> tuple[np.ndarray, np.ndarray]:
    """Return an image of air at -805, soft tissue at 25, lung at -690 and padding at -2500, and the lung's mask."""
    image = np.full((40, 40), -805, np.int16)
    image[5:35, 5:35] = 25
    lung = np.zeros((40, 40), np.bool_)
    lung[10:30, 10:30] = True
    image[lung] = -690
    image[0, 0] = -2500
    return image, lung


def test_air_and_soft_tissue_get_their_hounsfield_units(tmp_path: Path) -> None:
    image, lung = compressed_chest()
    np.savez(tmp_path / "lung-slices.npz", image=image[None], lung=lung[None], name=np.array(["ID_0007_Z_0065"]))
    (sample,) = datasets.read("lung-slices", tmp_path)
    assert sample.patient == "ID_0007"
    assert sample.image[0, 2, 2] == pytest.approx(-1000, abs=10)
    assert sample.image[0, 6, 6] == pytest.approx(45, abs=10)
    assert -900 < sample.image[0, 20, 20] < -800
    assert sample.image[0, 0, 0] == -1000


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "lung-slices.npz", image=np.zeros((1, 2, 2)))
    with pytest.raises(BadData, match=r"lung-slices.npz: expected arrays image, lung and name"):
        list(datasets.read("lung-slices", tmp_path))


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    objects = np.array([{"not": "an image"}], dtype=object)
    np.savez(tmp_path / "lung-slices.npz", image=objects, lung=objects, name=objects)
    with pytest.raises(BadData, match="allow_pickle"):
        list(datasets.read("lung-slices", tmp_path))


@pytest.mark.parametrize("length", [0, 100])
def test_a_damaged_file_is_named(tmp_path: Path, length: int) -> None:
    path = tmp_path / "lung-slices.npz"
    np.savez(path, image=np.zeros((1, 9, 9)), lung=np.zeros((1, 9, 9)), name=np.array(["a"]))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadData, match=r"lung-slices.npz: "):
        list(datasets.read("lung-slices", tmp_path))


def test_a_file_with_any_damaged_byte_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "lung-slices.npz"
    image, lung = compressed_chest()
    np.savez_compressed(path, image=image[None], lung=lung[None], name=np.array(["a"]))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for value in (0, 1, 255):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            with suppress(BadData):
                list(datasets.read("lung-slices", tmp_path))


def test_arrays_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    image, lung = compressed_chest()
    np.savez(tmp_path / "lung-slices.npz", image=image[None], lung=lung[None, :9], name=np.array(["a"]))
    with pytest.raises(BadData, match=r"lung-slices.npz: image \(1, 40, 40\), lung \(1, 9, 40\), name \(1,\)"):
        list(datasets.read("lung-slices", tmp_path))


@pytest.mark.parametrize(("image_type", "lung_type"), [(np.float32, np.bool_), (np.int16, np.uint8)])
def test_arrays_of_other_types_are_named(tmp_path: Path, image_type: type, lung_type: type) -> None:
    image, lung = compressed_chest()
    arrays = {"image": image[None].astype(image_type), "lung": lung[None].astype(lung_type)}
    np.savez(tmp_path / "lung-slices.npz", **arrays, name=np.array(["a"]))
    with pytest.raises(BadData, match=r"lung-slices.npz: expected image int16 and lung bool"):
        list(datasets.read("lung-slices", tmp_path))


def test_an_image_without_soft_tissue_is_named(tmp_path: Path) -> None:
    image, lung = compressed_chest()
    image[:] = -500
    np.savez(tmp_path / "lung-slices.npz", image=image[None], lung=lung[None], name=np.array(["ID_7"]))
    with pytest.raises(BadData, match=r"lung-slices.npz, ID_7: no pixel outside the lung has -250 to 250"):
        list(datasets.read("lung-slices", tmp_path))
