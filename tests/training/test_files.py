import json
import math
from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from training.files import read_json, replace_file, write_json


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail(partial: Path) -> None:
        partial.write_text("half of it")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_becomes_null(number: float, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [number, 1.5], "b": (number,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "b": [None]}


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a":')
    with pytest.raises(SettingsError, match=r"a\.json: is no whole JSON file"):
        read_json(tmp_path / "a.json")
