"""Show figures beside the papers', in the terminal and as docs/experiments.md; none of them is typed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_node.errors import SettingsError
from training import experiments
from training.datasets import OWN
from training.experiment import Experiment
from training.files import read_json, replace_file
from training.overview import SHORT, SPLITS, overview
from training.provenance import is_processor

Result = Mapping[str, Any]
"""The content of a run's ``result.json``."""

SEEN = "NO MEASURE OF NEW PATIENTS: pretraining had seen those of "
"""Begins the warning about figures on patients that the pretrained weights had learned from."""

HEAD = """\
# The papers' tables, regenerated

Written by `hilum experiments --runs RUNS --write docs/experiments.md` from the runs' `result.json`; do not edit. What
it says about experiments without a run in RUNS stays as it was. First come the papers' tables, each figure found here
with the paper's in brackets behind it; then each experiment has a section with all its figures.
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
    """Write all results as one Markdown page; its sections about other experiments stay as they are.

    Raises
    ------
    SettingsError
        Two results have the same title, or a result would replace a more complete one on the page: a short one would
        replace a full one, or one of fewer splits one of more.
    """
    sections = sections_of(path.read_text()) if path.exists() else {}
    written: dict[str, Path] = {}
    for folder, result in results.items():
        name = title(result, folder)
        if name in written:
            raise SettingsError(
                "same-experiment", f"{written[name]} and {folder} both hold {name}; move one out of the folder of runs"
            )
        if name in sections:
            _require_no_less(result, sections[name], f"{name} on {path}", folder)
        written[name] = folder
    sections |= {name: "\n".join(section(name, results[folder])) for name, folder in written.items()}
    text = "\n".join([HEAD, *overview(sections), *(sections[name] for name in sorted(sections))])
    replace_file(path, lambda partial: partial.write_text(text))


def _require_no_less(result: Result, section: str, there: str, folder: Path) -> None:
    """Refuse a result that is less complete than the section that it would replace."""
    is_full = SHORT not in section
    if result["short"] and is_full:
        raise SettingsError("short-run", f"{folder} is short, {there} is not; move it out of the folder of runs")
    splits = SPLITS.search(section)
    if splits and bool(result["short"]) is not is_full and result["splits_done"] < int(splits[2]):
        raise SettingsError(
            "fewer-splits",
            f"{folder} has {result['splits_done']} splits, {there} {splits[2]}; train the others, or move it out of "
            "the folder of runs",
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


def sections_of(page: str) -> dict[str, str]:
    """Return the sections of a page by their titles."""
    _, *sections = page.split("\n## ")
    return {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in sections}


def section(name: str, result: Result) -> Iterator[str]:
    """Yield the lines about one result, below its title."""
    yield f"## {name}"
    yield ""
    yield f"{result['paper']}. {describe(result)}."
    if result["differs"]:
        yield f"Differs from the paper: {result['differs']}."
    yield ""
    yield "| measure | here | paper |"
    yield "|---|---|---|"
    for row in rows(result):
        yield f"| {' | '.join(row)} |"
    yield ""


def describe(result: Result) -> str:
    """Return how a result came about, in one sentence without its full stop."""
    parts = [f"{SHORT}{result['length']}" if result["short"] else str(result["length"])]
    if result["splits_all"]:
        parts.append(f"on {', '.join(result['data'])}")
        parts.append(f"{result['splits_done']} of {result['splits_all']} splits, by {result['split_by']}")
    if tested := count_tested(result["splits"]):
        parts.append(f"tested {'patients' if result['split_by'] == 'patient' else 'images and patients'}: {tested}")
    if result.get("seen_before"):
        parts.append(f"{SEEN}{', '.join(result['seen_before'])}")
    if "judged" in result:  # results of benchmarks and of earlier versions lack it
        parts.append(result["judged"])
    if result["parameters"]:
        parts.append(f"{result['parameters']:,} parameters")
    seconds = [split["training_seconds"] for split in result["splits"]]
    if seconds:
        parts.append(f"{sum(seconds) / len(seconds) / 60:.1f} min of training a split")
    losses = [(split["loss_first"], split["loss_last"]) for split in result["splits"] if "loss_first" in split]
    if losses:
        first, last = (sum(values) / len(losses) for values in zip(*losses, strict=True))
        parts.append(f"loss {first:.2g} to {last:.2g}")
    source = ", ".join(shortened(commit) for commit in result["source"].split(", "))
    parts.append(f"{result['device']}, torch {result['torch']}, source {source}, seed {result['seed']}")
    return "; ".join(parts)


def count_tested(splits: Sequence[Result]) -> int:
    """Return how many patients were tested; where figures say over how many they are, some may have been left out."""
    figures: list[float] = [
        split["measures"]["patients"] for split in splits if "patients" in split.get("measures", ())
    ]
    if figures:
        return round(sum(figures))
    return len({name for split in splits for name in split.get("tested", ())})


def shortened(commit: str) -> str:
    """Return the beginning of a commit's hash, with "-dirty" if the tree was changed."""
    name, mark, _ = commit.partition("-dirty")
    return name[:12] + mark


def rows(result: Result) -> Iterator[tuple[str, str, str]]:
    """Yield (measure, here, paper): first the paper's measures, with each place where it states them, then our others.

    Measures that neither has are left out, such as area-plots of single slices.
    """
    published: dict[str, list[str]] = {}
    for figure in result["published"]:
        text = plus_minus(figure["mean"], figure["standard_deviation"])
        published.setdefault(figure["measure"], []).append(f"{text} ({figure['place']})")
    measures = result["measures"]
    ours_alone = (name for name in measures if name not in published and measures[name]["mean"] is not None)
    for name in [*published, *ours_alone]:
        here = plus_minus(**{k: measures[name][k] for k in ("mean", "standard_deviation")}) if name in measures else "-"
        yield name, here, "; ".join(published.get(name, ()))


def plus_minus(mean: float | None, standard_deviation: float | None) -> str:
    """Return a figure as text, with its standard deviation if it has one."""
    if mean is None:
        return "-"
    spread = "" if standard_deviation is None else f" ± {standard_deviation:.3g}"
    return (f"{mean:.3f}" if abs(mean) < 1000 else f"{mean:,.0f}") + spread
