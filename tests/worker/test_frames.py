"""How headers name the chest: by the body part examined, or by descriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import NotAnalysable
from tests.factories import ct_series, gradient_hu
from worker.frames import LARGEST_MATRIX, names_chest, read_frames
from worker.volume import read_volume


@pytest.mark.parametrize(
    ("part", "description", "chest"),
    [
        ("", "CT Thorax nativ", True),
        ("", "HRCT 1.0", True),
        ("", "HRCT LUNG HEAD FIRST", True),
        ("", "HRCT TEMPORAL BONE", False),
        ("", "HRCT PNS", False),
        ("EAR", "HRCT 0.6", False),
        ("IAC", "HRCT Felsenbein", False),
        ("TEMPORAL BONE", "HRCT", False),
        ("ABDOMEN", "CT THORAX/ABDOMEN", True),
        ("", "Routine", False),
        ("HEAD", "POLYTRAUMA HEAD CHEST", False),
    ],
)
def test_descriptions_name_the_chest_where_the_body_part_names_nothing_else(
    tmp_path: Path, part: str, description: str, chest: bool
) -> None:
    path, *_ = ct_series(tmp_path, gradient_hu(), BodyPartExamined=part, StudyDescription=description)
    assert names_chest(read_frames(path)[0].body_part) == chest


@pytest.mark.parametrize("description", ["HRCT 1.0", "CT Pulmonary Angio", "Toraxe", "Lunge"])
def test_a_missing_slice_of_a_chest_that_only_its_description_names_is_answered(
    tmp_path: Path, description: str
) -> None:
    described = {"BodyPartExamined": "", "StudyDescription": "", "SeriesDescription": description}
    paths = ct_series(tmp_path, gradient_hu(), keep=[0, 1, 3, 4], **described)

    with pytest.raises(NotAnalysable) as caught:
        read_volume(paths)

    assert caught.value.code == "missing-slices"


@pytest.mark.parametrize("part", ["WHOLEBODY", "TORSO", "Trunk"])
def test_a_larger_part_of_the_body_includes_the_chest(part: str) -> None:
    assert names_chest(part)


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
@pytest.mark.parametrize("written", [["NaN", "0", "0"], ["0", "inf", "0"]])
def test_a_position_is_refused_if_one_of_its_values_is_not_finite(tmp_path: Path, written: list[str]) -> None:
    path, *_ = ct_series(tmp_path, gradient_hu(), ImagePositionPatient=written)

    with pytest.raises(NotAnalysable, match=r"expected ImagePositionPatient with 3 finite value\(s\), got 2"):
        read_frames(path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
@pytest.mark.parametrize("written", ["NaN", "inf"])
def test_a_refusal_counts_no_value_that_is_not_finite(tmp_path: Path, written: str) -> None:
    path, *_ = ct_series(tmp_path, gradient_hu(), RescaleSlope=written)

    with pytest.raises(NotAnalysable, match=r"expected RescaleSlope with 1 finite value\(s\), got 0"):
        read_frames(path)


@pytest.mark.parametrize(("rows", "columns"), [(LARGEST_MATRIX + 1, 64), (64, LARGEST_MATRIX + 1)])
def test_a_matrix_larger_than_that_of_any_scanner_is_refused(tmp_path: Path, rows: int, columns: int) -> None:
    """Compressed, its pixels may take two kilobytes, and all memory once they are decoded."""
    (path,) = ct_series(tmp_path, gradient_hu((1, 6, 7)), Rows=rows, Columns=columns)
    with pytest.raises(NotAnalysable, match=f"at most 4096 rows and columns, got {rows} x {columns}") as caught:
        read_frames(path)
    assert caught.value.code == "large-matrix"
