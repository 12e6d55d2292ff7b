from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from tests.factories import chest_hu, ct_series, multiframe_ct
from tests.worker.reports.results import CUT_OFF, SHAPE, findings_of
from worker.findings import Findings, Flag
from worker.gates import disagreement
from worker.reports import codes
from worker.reports.outcome import conclusion
from worker.reports.picture import SIZE, draw_picture, flag_lines, slice_number, slices_of_picture
from worker.volume import Volume, read_volume

AXIAL_VIEW = (slice(84, 664), slice(16, 796))
FURTHER_VIEWS = np.s_[676:906, 16:1264]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read_volume(ct_series(tmp_path_factory.mktemp("ct"), chest_hu(SHAPE)[0]))


def found(volume: Volume, *flags: Flag, infected: bool = True) -> Findings:
    _, labels, infection = chest_hu(SHAPE, infected=infected)
    return findings_of(volume, labels, infection, flags=flags)


def is_colour(picture: NDArray[np.uint8], rgb: tuple[int, int, int]) -> NDArray[np.bool_]:
    return (np.abs(picture.astype(int) - rgb) < 40).all(axis=-1)


def test_outlines_the_infection_on_the_side_it_lies(volume: Volume) -> None:
    picture = np.asarray(draw_picture(volume, found(volume)))

    red = is_colour(picture[AXIAL_VIEW], codes.INFECTION.rgb)

    columns = np.flatnonzero(red.any(axis=0))
    assert columns.size
    assert columns.max() < red.shape[1] / 2  # the lesion is in the right lung, on the left of the picture


def test_outlines_nothing_where_nothing_was_found(volume: Volume) -> None:
    picture = np.asarray(draw_picture(volume, found(volume, infected=False)))

    assert not is_colour(picture[AXIAL_VIEW], codes.INFECTION.rgb).any()


def test_shows_the_slice_with_the_largest_infected_area(volume: Volume) -> None:
    findings = found(volume)

    assert slices_of_picture(findings)[0] == int(np.argmax(findings.areas.infection_mm2))


def test_shows_the_slice_with_the_most_lung_where_nothing_was_found(volume: Volume) -> None:
    findings = found(volume, infected=False)

    assert slices_of_picture(findings)[0] == int(np.argmax(findings.areas.lung_mm2))


def test_shows_the_next_worst_slices_some_way_from_each_other(volume: Volume) -> None:
    areas_mm2 = np.array([0.0, 3, 9, 8, 0, 6, 0, 5, 0, 4, 0, 2])  # slices 6 mm apart
    findings = found(volume)
    findings = replace(findings, areas=replace(findings.areas, infection_mm2=areas_mm2))

    assert slices_of_picture(findings) == [2, 5, 9]


def test_outlines_the_infection_on_the_next_worst_slice(volume: Volume) -> None:
    _, labels, infection = chest_hu(SHAPE)
    infection[[2, 9]] = infection[5]
    picture = np.asarray(draw_picture(volume, findings_of(volume, labels, infection)))

    assert is_colour(picture[FURTHER_VIEWS], codes.INFECTION.rgb).any()


def test_a_slice_is_named_by_its_instance_number(tmp_path: Path) -> None:
    """Not by its position counted from the feet: many series count from the head."""
    volume = read_volume(ct_series(tmp_path, chest_hu(SHAPE)[0], seed=1))
    named = dcmread(volume.slices[0].path).InstanceNumber

    assert named != 1
    assert slice_number(volume, 0) == f"Image {named} of 12"


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([*range(61, 73)], "Image 63"),
        ([*range(2, 14)], "Image 4"),
        ([*range(0, 24, 2)], "Image 4"),
        ([1] * 12, ""),
        ([None, *range(2, 13)], ""),
    ],
)
def test_tells_no_count_nor_number_that_is_not_true(volume: Volume, numbers: list[int | None], told: str) -> None:
    slices = tuple(replace(s, instance_number=n) for s, n in zip(volume.slices, numbers, strict=True))

    assert slice_number(replace(volume, slices=slices), 2) == told


def test_a_frame_is_named_by_its_number_in_the_object(tmp_path: Path) -> None:
    volume = read_volume(multiframe_ct(tmp_path, chest_hu(SHAPE)[0], seed=1))

    assert slice_number(volume, 0) == f"Frame {volume.slices[0].frame_number} of 12"
    assert volume.slices[0].frame_number != 1


def test_is_drawn_for_empty_masks_too(volume: Volume) -> None:
    nothing = findings_of(volume, np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool))

    assert draw_picture(volume, nothing).size == SIZE


def test_warns_on_every_picture(volume: Volume) -> None:
    for findings in (found(volume), found(volume, CUT_OFF), found(volume, infected=False)):
        footer = np.asarray(draw_picture(volume, findings))[SIZE[1] - 50 :]
        assert is_colour(footer, (250, 204, 60)).sum() > 500


def test_is_the_same_whatever_the_orientation_of_the_slices(tmp_path: Path, volume: Volume) -> None:
    hu, labels, infection = chest_hu(SHAPE)
    flipped = read_volume(
        ct_series(
            tmp_path,
            hu[:, ::-1, ::-1],
            orientation=(-1, 0, 0, 0, -1, 0),
            origin_mm=(-150 + 63 * 3, -140 + 47 * 3, -200),
        )
    )
    there = findings_of(flipped, labels[:, ::-1, ::-1], infection[:, ::-1, ::-1])

    straight, turned = draw_picture(volume, found(volume)), draw_picture(flipped, there)

    np.testing.assert_array_equal(np.asarray(straight)[AXIAL_VIEW], np.asarray(turned)[AXIAL_VIEW])


@pytest.mark.parametrize("flag", [CUT_OFF, *disagreement(5.3, 4.1)], ids=lambda flag: str(flag.code))
def test_the_reason_for_withholding_stands_first_and_whole(volume: Volume, flag: Flag) -> None:
    doubts = [Flag(f"doubt-{n}", f"Doubt {n} is told in words enough to fill some of the lines.") for n in (1, 2, 3)]

    lines = flag_lines(found(volume, *doubts, flag), 452)

    assert " ".join(lines).startswith(flag.message)
    assert lines[-1] == "More in the report."
    assert len(lines) <= 5


def test_no_message_of_a_flag_breaks_off(volume: Volume) -> None:
    doubts = [Flag(f"doubt-{n}", "Word " * 17) for n in (1, 2, 3)]  # each takes two lines

    for count, last in ((1, "Word"), (2, "Word"), (3, "More in the report.")):
        lines = flag_lines(found(volume, *doubts[:count]), 452)
        assert len(lines) == 2 * min(count, 2) + (count == 3)
        assert lines[-1].startswith(last)


@pytest.mark.parametrize("flag", [CUT_OFF, *disagreement(5.3, 4.1)], ids=lambda flag: str(flag.code))
def test_the_conclusion_of_a_withheld_percentage_holds_no_number(volume: Volume, flag: Flag) -> None:
    text = conclusion(found(volume, flag))

    assert "%" not in text
    assert not re.search(r"\d", text)
    assert flag.message in text
