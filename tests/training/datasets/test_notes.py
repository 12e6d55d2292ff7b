from pathlib import Path

from training.datasets.notes import MOST_NAMES, notes


def test_patients_without_labels_are_counted_and_named(tmp_path: Path) -> None:
    for folder in ("anna/labels", "bert/labels.partial", "carl/study", "runs/own"):
        (tmp_path / folder).mkdir(parents=True)
    said = list(notes(["labels"], tmp_path, without=tmp_path / "runs" / "own"))
    assert said == ["2 of 3 patients have no labels and are left out: bert, carl"]


def test_a_long_list_of_patients_is_cut_short(tmp_path: Path) -> None:
    for number in range(MOST_NAMES + 3):
        (tmp_path / f"p{number:02d}").mkdir()
    (said,) = notes(["labels"], tmp_path, without=tmp_path / "runs")
    assert said.endswith("p09 and 3 more")
