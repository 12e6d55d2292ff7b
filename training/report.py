"""Write figures beside the papers' as docs/experiments.md, and as JSON beside it; none of them is typed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from dicom_node.errors import SettingsError
from training import experiments
from training.datasets import OWN
from training.experiment import Experiment
from training.files import read_json, refuse_unwritable, replace_file, write_json
from training.overview import overview
from training.provenance import is_processor
from training.summary import FIELDS, Result, Summary, rows, summarise

HEAD = """\
# The papers' tables, regenerated

Written by `hilum experiments --runs RUNS --write docs/experiments.md` from the runs' `result.json`; do not edit. The
figures are kept in the JSON file beside this page, also those of experiments without a run in RUNS. First come the
papers' tables, each figure found here with the paper's in brackets behind it; then each experiment has a section with
all its figures.
A figure here is the mean ± sample standard deviation over the finished splits, if there are several; `cases` and
`patients` are sums. A short run says so and is no measure of the method. For most papers, the data differ: see the line
below each section's title.
Where `last_epoch/...` stands, the figures without it are of the epoch that was best on the validation part.
`tuned/...` uses the threshold that was best on the validation part; the papers' figures, and all others here, use the
experiment's own threshold. "(goal)" marks what the project set out to reach. Convolutions are trained in bfloat16 if
the hardware computes in it, 3D ones on CPU in 32 bits, as the papers' probably were. `cpu_seconds` is the time that the
process computed; `seconds` also grow with whatever else the machine does.
"""


def read_results(runs: Path) -> dict[Path, Result]:
    """Return the results of all runs in a folder by the runs' folders, sorted by the names of the experiments.

    Raises
    ------
    SettingsError
        A file is damaged, or no result of a run, such as that of a split if the folder is a run itself.
    """
    results: dict[Path, Result] = {path.parent: read_json(path) for path in sorted(runs.glob("*/result.json"))}
    for folder, result in results.items():
        if "experiment" not in result:  # as in that of a split
            raise SettingsError(
                "not-runs", f"{folder} is not the folder of a run; expected the folder that holds the runs, got {runs}"
            )
    return dict(sorted(results.items(), key=lambda item: str(item[1]["experiment"])))


def write_report(results: Mapping[Path, Result], path: Path) -> None:
    """Write all results as one Markdown page, and its figures to a JSON file beside it.

    What that file has of other experiments stays. Without results, the page is written from that file alone.

    Raises
    ------
    SettingsError
        There is nothing to write. Two results have the same title, or a result would replace a more complete one on the
        page: a short one would replace a full one, or one of fewer splits one of more. Or errors of ``read_summaries``.
    """
    summaries = read_summaries(path)
    written: dict[str, Path] = {}
    for folder, result in results.items():
        name = title(result, folder)
        if name in written:
            raise SettingsError(
                "same-experiment", f"{written[name]} and {folder} both hold {name}; move one out of the folder of runs"
            )
        if name in summaries:
            _require_no_less(result, summaries[name], f"{name} on {path}", folder)
        written[name] = folder
    summaries |= {name: summarise(results[folder]) for name, folder in written.items()}
    if not summaries:
        raise SettingsError("no-runs", f"there are no figures for {path}; name the folder of the runs with --runs")
    text = page(summaries)
    write_json(path.with_suffix(".json"), dict(sorted(summaries.items())))
    replace_file(path, lambda partial: partial.write_text(text))


def read_summaries(path: Path) -> dict[str, Summary]:
    """Return what the JSON file beside a page has kept; nothing if there is neither.

    Raises
    ------
    SettingsError
        The page is not called ``.md``, one of the two files cannot be written, or is not what this command wrote.
    """
    if path.suffix != ".md":
        raise SettingsError("no-page", f"{path} is no page of Markdown; name one, such as FILE.md")
    kept = path.with_suffix(".json")
    for file in (path, kept):
        refuse_unwritable(file)
    if not kept.exists():
        if path.exists():
            raise SettingsError("other-page", f"{path} has no {kept.name} beside it, and would be lost; move it away")
        return {}
    content = read_json(kept)
    entries = list(content.values()) if isinstance(content, dict) else []
    if not entries or not all(isinstance(entry, dict) and entry.keys() == FIELDS for entry in entries):
        raise SettingsError("other-file", f"{kept} has no figures of experiments; choose another name for the page")
    summaries: dict[str, Summary] = content
    return summaries


def page(summaries: Mapping[str, Summary]) -> str:
    """Return the page about experiments by their titles."""
    sections = chain.from_iterable(section(name, summaries[name]) for name in sorted(summaries))
    return "\n".join([HEAD, *overview(summaries), *sections])


def _require_no_less(result: Result, kept: Summary, there: str, folder: Path) -> None:
    """Refuse a result that is less complete than the one that it would replace."""
    if result["short"] and not kept["short"]:
        raise SettingsError("short-run", f"{folder} is short, {there} is not; move it out of the folder of runs")
    if result["short"] == kept["short"] and result["splits_done"] < kept["splits_done"]:
        raise SettingsError(
            "fewer-splits",
            f"{folder} has {result['splits_done']} splits, {there} {kept['splits_done']}; train the others, or move it "
            "out of the folder of runs",
        )


def title(result: Result, folder: Path) -> str:
    """Return the title of a result's section.

    Figures of a GPU have their own section beside those of a CPU. So does each run on other data sets than the
    experiment's, and on a site's own scans, because their labels may be corrected between runs.
    """
    name, device, sets = str(result["experiment"]), str(result["device"]), set(result.get("data", ()))
    experiment = experiments.REGISTRY.get(name)
    is_on_others = isinstance(experiment, Experiment) and sets != set(experiment.data)
    run = f"{name} in {folder.name}" if sets & set(OWN) or is_on_others else name
    return run if is_processor(device) else f"{run} on {device}"


def section(name: str, summary: Summary) -> Iterator[str]:
    """Yield the lines about one experiment, below its title."""
    yield f"## {name}"
    yield ""
    yield f"{summary['paper']}. {summary['description']}."
    if summary["differs"]:
        yield f"Differs from the paper: {summary['differs']}."
    yield ""
    yield "| measure | here | paper |"
    yield "|---|---|---|"
    for row in rows(summary):
        yield f"| {' | '.join(row)} |"
    yield ""
