"""What a header says of its frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import ct_series
from tests.worker.test_volume import gradient
from worker.frames import names_chest, read_frames


@pytest.mark.parametrize(
    ("part", "description", "chest"),
    [
        ("", "CT Thorax nativ", True),
        ("ABDOMEN", "CT THORAX/ABDOMEN", True),
        ("", "Routine", False),
        ("HEAD", "POLYTRAUMA HEAD CHEST", False),
    ],
)
def test_descriptions_name_the_chest_where_the_body_part_names_nothing_else(
    tmp_path: Path, part: str, description: str, chest: bool
) -> None:
    path, *_ = ct_series(tmp_path, gradient(), BodyPartExamined=part, StudyDescription=description)
    assert names_chest(read_frames(path)[0].body_part) == chest
