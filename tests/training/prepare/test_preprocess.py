from dataclasses import replace

import numpy as np
import pytest

from training.datasets.sample import LUNG, BadData, Sample
from training.prepare.preprocess import WU_WINDOW_HU, Preprocess, frame
from worker.framing import Framing, body_box


def sample(image: np.ndarray, window_hu: tuple[float, float] | None = None, **masks: np.ndarray) -> Sample:
    return Sample(
        name="a",
        source="test",
        patient="p",
        scan="a",
        position=0,
        image=image,
        intensity="gray" if image.dtype == np.uint8 else "hu",
        masks=masks,
        window_hu=window_hu,
    )


def hu(*values: int) -> np.ndarray:
    return np.array(values, np.int16).reshape(1, 1, -1)


def test_hounsfield_units_are_clipped_and_scaled_as_wu_et_al_do() -> None:
    image = Preprocess((1, 4), WU_WINDOW_HU).image(sample(hu(-3000, -1200, -300, 900)))
    assert image[0, 0].tolist() == [0, 0, 0.5, 1]


def test_the_window_of_the_header_is_used_where_asked_for() -> None:
    image = Preprocess((1, 3), "header").image(sample(hu(-500, 0, 500), window_hu=(-500, 500)))
    assert image[0, 0].tolist() == [0, 0.5, 1]


def test_a_missing_window_is_an_error_that_names_the_sample() -> None:
    with pytest.raises(BadData, match="a: no window in the DICOM header"):
        Preprocess((1, 3), "header").image(sample(hu(-500, 0, 500)))


def test_a_window_without_width_is_an_error_that_names_the_sample() -> None:
    with pytest.raises(BadData, match="a: the window in the DICOM header has no width"):
        Preprocess((1, 3), "header").image(sample(hu(-500, 0, 500), window_hu=(40, 40)))


def test_eight_bit_images_are_divided_by_255() -> None:
    image = Preprocess((1, 2)).image(sample(np.array([[[0, 255]]], np.uint8)))
    assert image[0, 0].tolist() == [0, 1]


def test_everything_outside_the_lungs_is_black_where_asked_for() -> None:
    lung = np.array([[[False, True]]])
    image = Preprocess((1, 2), within_lungs=True).image(sample(np.array([[[255, 255]]], np.uint8), **{LUNG: lung}))
    assert image[0, 0].tolist() == [0, 1]


def test_padding_keeps_the_aspect_and_the_middle() -> None:
    wide = np.full((1, 10, 20), 255, np.uint8)
    preprocess = Preprocess((20, 20), keep_aspect=True)
    image = preprocess.image(sample(wide))
    assert image[0, 5:15].all()
    assert not image[0, :5].any()
    assert not image[0, 15:].any()


def test_labels_lie_where_the_image_does() -> None:
    gray = np.zeros((1, 30, 44), np.uint8)
    gray[:, 5:20, 7:35] = 255
    preprocess = Preprocess((64, 64), keep_aspect=True)
    image = preprocess.image(sample(gray))
    labels = preprocess.labels((gray > 0).astype(np.uint8), sample(gray))
    assert np.mean((image > 0.5) != (labels == 1)) < 0.01


def test_labels_are_not_mixed() -> None:
    labels = np.array([[[0, 3], [3, 0]]], np.uint8)
    assert set(np.unique(Preprocess((5, 5)).labels(labels, sample(labels)))) == {0, 3}


def body_in_air() -> np.ndarray:
    image = np.full((2, 120, 160), -1000, np.int16)
    image[:, 40:100, 30:130] = 40
    return image


def test_the_air_around_the_body_is_cut_away_from_image_and_labels_alike() -> None:
    image = body_in_air()
    preprocess = Preprocess((64, 64), keep_aspect=True, crop_to_body=True)
    shown = preprocess.image(sample(image))[0]
    labels = preprocess.labels((image > 0).astype(np.uint8), sample(image))[0]
    assert np.mean((shown > 0.5) != (labels == 1)) < 0.01
    assert (shown > 0.5).mean() > 0.5


def test_a_lung_without_a_chest_wall_is_not_cut_away() -> None:
    image = body_in_air()
    lung = np.zeros(image.shape, np.bool_)
    lung[:, 40:100, 0:30] = True
    assert frame(sample(image, lung=lung))[1].start == 0


def test_a_pixel_covers_a_share_of_the_body_not_of_the_air() -> None:
    rows, columns = Preprocess((64, 64), keep_aspect=True, crop_to_body=True).pixel_sides(sample(body_in_air()))
    assert rows == columns < 160 / 64


@pytest.mark.parametrize("aspect", [1.0, 0.5, 1.7])
def test_training_sees_what_the_worker_shows(aspect: float) -> None:
    image = np.random.default_rng(0).integers(-1000, 400, (2, 120, 160)).astype(np.int16)
    image[:, :20] = -1000
    spaced = replace(sample(image), spacing_mm=(5.0, 0.7 * aspect, 0.7))
    trained = Preprocess((64, 64), keep_aspect=True, crop_to_body=True).image(spaced)
    frame = Framing(*body_box(image), 64, aspect)
    shown = [frame.show(hu[frame.rows, frame.columns].astype(np.float32), WU_WINDOW_HU) for hu in image]
    assert np.allclose(trained, shown, atol=1e-3)
