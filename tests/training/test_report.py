from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from tests.training.results import RESULT
from training.files import read_json, write_json
from training.report import page, read_results, title, write_report
from training.summary import Result


def runs(*results: Result) -> dict[Path, Result]:
    """Return results by the folders of their runs."""
    return {Path("RUNS", str(number)): result for number, result in enumerate(results)}


def test_a_short_form_says_so_on_the_page(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "result.json", RESULT | {"experiment": name})
    write_report(read_results(tmp_path), tmp_path / "experiments.md")
    page = (tmp_path / "experiments.md").read_text()
    assert page.index("## a") < page.index("## b")
    assert "SHORT: 2 epochs at 32x32; on mine, yours; 1 of 3 splits, by slice; 372,486 parameters; 2.0 min" in page
    assert "| lung/dice_per_case | 0.951 | 0.921 (text); 0.941 (table 1) |" in page


def test_a_run_in_place_of_the_folder_of_runs_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "wu"
    (run / "split-0").mkdir(parents=True)
    write_json(run / "result.json", RESULT)
    write_json(run / "split-0" / "result.json", {"split": 0, "measures": {}})
    with pytest.raises(SettingsError, match="expected the folder that holds the runs"):
        read_results(run)


def test_a_page_keeps_what_it_says_of_experiments_that_were_run_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    write_report(runs(RESULT | {"experiment": "a"}, RESULT | {"experiment": "b"}), path)
    write_report(runs(RESULT | {"experiment": "b", "paper": "another, table 1"}, RESULT | {"experiment": "c"}), path)
    page = path.read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## a", "## b", "## c"]
    assert page.count("Wu et al. 2020, table 1. ") == 2
    assert page.count("another, table 1. ") == 1


def test_a_page_that_is_written_again_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    write_report(runs(RESULT), path)
    first = path.read_text()
    write_report(runs(RESULT), path)
    assert path.read_text() == first


def test_a_page_can_be_written_again_without_the_runs(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    write_report(runs(RESULT), path)
    first = path.read_text()
    path.unlink()
    write_report({}, path)
    assert path.read_text() == first


def test_figures_of_a_gpu_stand_beside_those_of_a_cpu(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    write_report(runs(RESULT), path)
    write_report(runs(RESULT | {"device": "NVIDIA H100 80GB HBM3"}), path)
    titles = [line for line in path.read_text().splitlines() if line.startswith("## ")]
    assert titles == ["## wu-thresholds", "## wu-thresholds on NVIDIA H100 80GB HBM3"]


def test_splits_of_a_gpu_and_a_cpu_are_no_result_of_a_cpu() -> None:
    assert title(RESULT | {"device": "AMD EPYC, 2 threads and AMD EPYC, 4 threads"}, Path("run")) == "wu-thresholds"
    mixed = "NVIDIA H100 and AMD EPYC, 2 threads"
    assert title(RESULT | {"device": mixed}, Path("run")) == f"wu-thresholds on {mixed}"


def test_two_runs_of_one_experiment_are_not_both_written_down(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"RUNS/0 and RUNS/1 .* wu-thresholds"):
        write_report(runs(RESULT, RESULT), tmp_path / "experiments.md")
    assert not (tmp_path / "experiments.md").exists()


def test_runs_on_labels_that_were_corrected_in_between_stand_beside_each_other(tmp_path: Path) -> None:
    own = RESULT | {"experiment": "chest-own", "data": ["labels"]}
    measured = {name: value for name, value in RESULT.items() if name != "data"} | {"splits_all": 0}
    results = {Path("RUNS/own"): own, Path("RUNS/own-2"): own, Path("RUNS/measured"): measured}
    write_report(results, tmp_path / "experiments.md")
    page = (tmp_path / "experiments.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## chest-own in own",
        "## chest-own in own-2",
        "## wu-thresholds",
    ]


def test_a_run_on_other_sets_than_the_experiments_stands_beside_it() -> None:
    saood = RESULT | {"experiment": "saood-segnet-binary"}
    assert title(saood | {"data": ["medseg100"]}, Path("RUNS/a")) == "saood-segnet-binary"
    assert title(saood | {"data": ["covid-19-20"]}, Path("RUNS/a")) == "saood-segnet-binary in a"


def test_a_short_form_takes_the_place_of_no_full_one(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    full = RESULT | {"short": False}
    write_report(runs(full), path)
    with pytest.raises(SettingsError, match=r"RUNS/0 is short, wu-thresholds on .* is not"):
        write_report(runs(RESULT), path)
    assert "SHORT" not in path.read_text().partition("\n## ")[2]


def test_a_full_form_takes_the_place_of_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    write_report(runs(RESULT), path)
    write_report(runs(RESULT | {"short": False}), path)
    assert "SHORT" not in path.read_text().partition("\n## ")[2]


def test_a_run_of_fewer_splits_takes_the_place_of_none_with_more(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    write_report(runs(RESULT | {"splits_done": 3}), path)
    with pytest.raises(SettingsError, match=r"RUNS/0 has 2 splits, wu-thresholds on .* 3; train the others"):
        write_report(runs(RESULT | {"splits_done": 2}), path)
    assert "3 of 3 splits" in path.read_text()


def test_a_full_form_of_one_split_takes_the_place_of_a_short_one_of_three(tmp_path: Path) -> None:
    path = tmp_path / "experiments.md"
    write_report(runs(RESULT | {"splits_done": 3}), path)
    write_report(runs(RESULT | {"short": False}), path)
    assert "1 of 3 splits" in path.read_text()


def test_the_figures_of_the_page_are_those_in_the_file_beside_it() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert (docs / "experiments.md").read_text() == page(read_json(docs / "experiments.json"))


def test_a_page_that_would_be_the_file_of_its_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no page of Markdown"):
        write_report(runs(RESULT), tmp_path / "experiments.json")
    assert not list(tmp_path.iterdir())


def test_a_page_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Read me")
    with pytest.raises(SettingsError, match=r"README.md has no README.json beside it, and would be lost; move it away"):
        write_report(runs(RESULT), path)
    assert path.read_text() == "# Read me"


@pytest.mark.parametrize("content", [[1], {"receiving": 1}, {"receiving": {"ms": 1}}])
def test_figures_of_something_else_are_not_written_over(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "performance.json", content)
    with pytest.raises(SettingsError, match=r"performance.json has no figures of experiments"):
        write_report(runs(RESULT), tmp_path / "performance.md")
    assert read_json(tmp_path / "performance.json") == content
