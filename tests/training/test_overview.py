"""The overview says at a glance what ran, how far, and how near its first figure is to the paper's."""

from __future__ import annotations

import pytest

from tests.training.results import RESULT
from training.experiments import REGISTRY
from training.overview import anchor, overview
from training.report import Result, section


def overview_of(**changes: object) -> list[str]:
    result: Result = RESULT | changes
    name = str(result["experiment"])
    return list(overview({name: "\n".join(section(name, result))}))


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({"short": True}, "short, 1 of 3 splits"),
        ({"short": False}, "1 of 3 splits"),
        ({"short": False, "splits_all": 0, "splits_done": 0}, "measured once"),
    ],
)
def test_a_line_says_in_what_form_an_experiment_ran(changes: dict[str, object], form: str) -> None:
    line = f"| [wu-thresholds](#wu-thresholds) | {form} | lung/dice_per_case | 0.951 | 0.921 (text); 0.941 (table 1) |"
    assert line in overview_of(**changes)


def test_the_figure_is_the_first_dice_that_the_paper_has_too() -> None:
    measures = {name: {"mean": 0.5, "standard_deviation": None} for name in ("sensitivity", "mine/dice", "dice")}
    published = [
        {"measure": m, "mean": 0.25, "standard_deviation": None, "place": "t"} for m in ("sensitivity", "dice")
    ]
    (line,) = [line for line in overview_of(measures=measures, published=published) if "wu-thresholds" in line]
    assert line.endswith("| dice | 0.500 | 0.250 (t) |")


def test_without_a_dice_it_is_the_first_figure_of_the_paper_that_was_measured() -> None:
    measures = {"seconds": {"mean": 70.0, "standard_deviation": None}}
    published = [
        {"measure": m, "mean": 80.0, "standard_deviation": None, "place": "t"} for m in ("parameters", "seconds")
    ]
    (line,) = [line for line in overview_of(measures=measures, published=published) if "wu-thresholds" in line]
    assert line.endswith("| seconds | 70.000 | 80.000 (t) |")


def test_a_result_of_which_no_paper_says_anything_has_no_line() -> None:
    assert not [line for line in overview_of(published=[]) if "](#" in line]


def test_what_has_not_run_is_named_and_the_nine_settings_once() -> None:
    (missing,) = [line for line in overview_of() if line.startswith("Not yet run here: ")]
    names = missing.removeprefix("Not yet run here: ").removesuffix(".").split(", ")
    assert names.count("saood-unet-binary-setting-N") == 1
    assert "saood-segnet-binary" in names
    assert "wu-thresholds" not in names


def test_settings_are_named_one_by_one_once_some_of_them_have_run() -> None:
    sections = dict.fromkeys((name for name in REGISTRY if name != "saood-unet-multi-setting-7"), "")
    assert "Not yet run here: saood-unet-multi-setting-7." in list(overview(sections))


def test_a_sites_own_experiments_and_ours_are_not_missed() -> None:
    (missing,) = [line for line in overview_of() if line.startswith("Not yet run here: ")]
    assert "shivdeo-2d-dicom" not in missing
    assert "chest-own" not in missing


def test_nothing_is_missing_once_everything_ran() -> None:
    assert not [line for line in overview(dict.fromkeys(REGISTRY, "")) if line.startswith("Not yet")]


def test_a_line_leads_to_its_section() -> None:
    assert anchor("shivdeo-3d-overlap-0.625 on NVIDIA H100") == "shivdeo-3d-overlap-0625-on-nvidia-h100"
