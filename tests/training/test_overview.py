"""The page of experiments begins with the papers' tables, and says what ran, how far, and what did not."""

from __future__ import annotations

import pytest

from tests.training.results import RESULT
from training.experiments import REGISTRY
from training.overview import anchor, overview
from training.summary import Summary, summarise

LINK = "[wu-thresholds](#wu-thresholds)"


def published(measure: str, place: str, mean: float = 0.25) -> dict[str, object]:
    return {"measure": measure, "mean": mean, "standard_deviation": None, "place": place}


def overview_of(**changes: object) -> list[str]:
    summary = summarise(RESULT | changes)
    return list(overview({str(summary["experiment"]): summary}))


def all_but(*missing: str) -> dict[str, Summary]:
    """Return a summary of every experiment except those named."""
    return {name: summarise(RESULT | {"experiment": name}) for name in REGISTRY if name not in missing}


def measured(*names: str) -> dict[str, object]:
    return {name: {"mean": 0.5, "standard_deviation": None} for name in names}


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({"short": True}, "short, 1 of 3 splits"),
        ({"short": False}, "1 of 3 splits"),
        ({"short": False, "splits_all": 1}, "one split"),
        ({"short": False, "splits_all": 0, "splits_done": 0}, "measured once"),
    ],
)
def test_a_line_says_in_what_form_an_experiment_ran(changes: dict[str, object], form: str) -> None:
    assert f"| {LINK} | {form} | lung | 0.951 (0.941) |" in overview_of(**changes)


def test_a_line_about_a_numbered_setting_says_what_the_setting_is() -> None:
    changes = {"experiment": "saood-unet-binary-setting-4", "length": "2 epochs, batches of 2, initial rate 0.0005"}
    (line, *_) = [line for line in overview_of(**changes) if line.startswith("| [saood")]
    assert line.split(" | ")[1] == "short, 1 of 3 splits, batches of 2, initial rate 0.0005"


def test_each_table_of_a_paper_has_its_own_with_what_was_segmented_as_lines_and_measures_as_columns() -> None:
    names = "lung/dice", "last_epoch/lung/dice", "lung/f2", "seconds"
    figures = [published(name, "table 4") for name in names[:3]] + [published("seconds", "table 5")]
    lines = overview_of(measures=measured(*names), published=figures, short=False)
    start = lines.index("### Wu et al. 2020, table 4")
    assert lines[start : start + 10] == [
        "### Wu et al. 2020, table 4",
        "",
        "| experiment | form | of | dice | f2 |",
        "|---|---|---|---|---|",
        f"| {LINK} | 1 of 3 splits | lung | 0.500 (0.250) | 0.500 (0.250) |",
        f"| {LINK} | 1 of 3 splits | last_epoch/lung | 0.500 (0.250) |  |",
        "",
        "### Wu et al. 2020, table 5",
        "",
        "| experiment | form | of | seconds |",
    ]


def test_a_figure_that_a_table_states_twice_stands_there_once_with_both() -> None:
    figures = [published("seconds", "table 3, with GPU"), published("seconds", "table 3, without", 2000)]
    (line,) = [line for line in overview_of(measures=measured("seconds"), published=figures) if LINK in line]
    assert line.endswith("| 0.500 (0.250, with GPU; 2,000, without) |")


def test_what_a_paper_states_outside_its_tables_says_where() -> None:
    lines = overview_of(published=[published("lung/dice_per_case", 'text, "Results"')])
    assert "### Wu et al. 2020, text" in lines
    assert [line for line in lines if line.endswith('| lung | 0.951 (0.250, text, "Results") |')]


def test_a_figure_that_was_not_measured_has_its_place_in_the_table() -> None:
    assert [line for line in overview_of() if line.endswith("| - (0.500 ± 0.1) |")]


@pytest.mark.parametrize("paper", ["ours", "ours, beside the goals"])
def test_hilums_own_networks_stand_last_with_their_goals(paper: str) -> None:
    ours = RESULT | {"paper": paper, "published": [published("lung/dice_per_case", "goal")]}
    lines = list(overview({"a": summarise(ours), "wu-thresholds": summarise(RESULT)}))
    titles = [line for line in lines if line.startswith("### ")]
    assert titles[-1] == "### Hilum's own networks"
    assert [line for line in lines if line.endswith("| lung | 0.951 (0.250, goal) |")]


def test_an_experiment_of_which_no_paper_states_a_figure_is_named_below_the_tables() -> None:
    assert f"In no table, as no paper states a figure of them: {LINK}." in overview_of(published=[])


def test_what_has_not_run_is_named_and_the_nine_settings_once() -> None:
    (missing,) = [line for line in overview_of() if line.startswith("Not yet run here: ")]
    names = missing.removeprefix("Not yet run here: ").removesuffix(".").split(", ")
    assert names.count("saood-unet-binary-setting-N") == 1
    assert "saood-segnet-binary" in names
    assert "wu-thresholds" not in names


def test_what_ran_on_a_gpu_alone_is_not_missed() -> None:
    summaries = all_but("saood-segnet-binary")
    summaries["saood-segnet-binary on NVIDIA H100"] = summarise(RESULT | {"experiment": "saood-segnet-binary"})
    assert not [line for line in overview(summaries) if line.startswith("Not yet")]


def test_settings_are_named_one_by_one_once_some_of_them_have_run() -> None:
    assert "Not yet run here: saood-unet-multi-setting-7." in list(overview(all_but("saood-unet-multi-setting-7")))


def test_a_sites_own_experiments_and_ours_are_not_missed() -> None:
    (missing,) = [line for line in overview_of() if line.startswith("Not yet run here: ")]
    assert "shivdeo-2d-dicom" not in missing
    assert "chest-own" not in missing


def test_nothing_is_missing_once_everything_ran() -> None:
    assert not [line for line in overview(all_but()) if line.startswith("Not yet")]


def test_a_line_leads_to_its_section() -> None:
    assert anchor("shivdeo-3d-overlap-0.625 on NVIDIA H100") == "shivdeo-3d-overlap-0625-on-nvidia-h100"
