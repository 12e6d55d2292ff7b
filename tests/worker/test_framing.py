import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.framing import Framing, body_box

WINDOW = (-1200.0, 600.0)


def chest_in_air() -> np.ndarray:
    hu = np.full((3, 160, 200), -1000, np.int16)
    hu[:, 40:120, 30:170] = 40
    return hu


def test_the_box_holds_the_body_and_little_else() -> None:
    rows, columns = body_box(chest_in_air())
    assert 28 <= rows.start <= 40
    assert 120 <= rows.stop <= 132
    assert 18 <= columns.start <= 30
    assert 170 <= columns.stop <= 182


def test_a_thin_table_is_not_the_body() -> None:
    hu = chest_in_air()
    hu[:, 136:144, :] = 40
    assert body_box(hu)[0].stop <= 132


def test_an_image_cropped_to_the_patient_is_not_cropped_again() -> None:
    hu = np.full((1, 100, 100), 40, np.int16)
    hu[:, 20:80, :40] = -850
    assert body_box(hu) == (slice(0, 100), slice(0, 100))


def test_air_alone_has_no_body_and_is_shown_whole() -> None:
    assert body_box(np.full((2, 60, 80), -1000, np.int16)) == (slice(0, 60), slice(0, 80))


@given(
    st.integers(40, 90), st.integers(40, 90), st.integers(0, 30), st.integers(0, 30), st.sampled_from([1.0, 0.6, 1.7])
)
def test_what_is_shown_and_placed_again_lies_where_it_was(
    rows: int, columns: int, top: int, left: int, aspect: float
) -> None:
    frame = Framing(slice(top, top + rows), slice(left, left + columns), 96, aspect)
    hu = np.full((130, 130), -1200, np.float32)
    hu[top + 10 : top + 30, left + 5 : left + 35] = 600
    shown = frame.show(hu[frame.rows, frame.columns], WINDOW)
    placed = frame.place(shown)
    expected = hu[frame.rows, frame.columns] == 600
    assert placed.shape == expected.shape
    assert np.mean((placed > 0.5) != expected) < 0.02
    assert np.array_equal(frame.reaches(shown, 0.5), placed >= 0.5)
    assert not frame.reaches(shown, 1.5).any()


def test_beyond_the_rectangle_a_network_sees_black() -> None:
    shown = Framing(slice(0, 20), slice(0, 40), 32).show(np.full((20, 40), 600, np.float32), WINDOW)
    assert not shown[:7].any()
    assert shown[9:23].all()


def test_a_network_sees_pixels_that_are_not_square_in_their_true_shape() -> None:
    y, x = np.mgrid[:60, :120]
    squashed = np.where(np.hypot(2 * (y - 30), x - 60) < 40, 600, -1200).astype(np.float32)  # pixels twice as high
    shown = Framing(slice(0, 60), slice(0, 120), 96, aspect=2.0).show(squashed, WINDOW) > 0.5
    assert abs(int(shown.any(axis=1).sum()) - int(shown.any(axis=0).sum())) <= 1
