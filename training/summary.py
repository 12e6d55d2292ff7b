"""What a run's result says, for people: its figures beside the paper's, and in one sentence how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
"""The content of a run's ``result.json``."""

Summary = Mapping[str, Any]
"""What is kept of a result, with the sentence that describes it: an entry of docs/experiments.json."""

KEPT = ("experiment", "paper", "differs", "short", "length", "splits_done", "splits_all", "published")
"""What a summary has of a result as it is."""

FIELDS = {*KEPT, "description", "measures"}
"""What a summary has."""

SEEN = "NO MEASURE OF NEW PATIENTS: pretraining had seen those of "
"""Begins the warning about figures on patients that the pretrained weights had learned from."""


def summarise(result: Result) -> Summary:
    """Return what is kept of a result; measures that were undefined are left out."""
    measures = {
        name: {key: spread[key] for key in ("mean", "standard_deviation")}
        for name, spread in result["measures"].items()
        if spread["mean"] is not None
    }
    return {key: result[key] for key in KEPT} | {"description": describe(result), "measures": measures}


def describe(result: Result) -> str:
    """Return how a result came about, in one sentence without its full stop."""
    parts = [f"SHORT: {result['length']}" if result["short"] else str(result["length"])]
    if result["splits_all"]:
        parts.append(f"on {', '.join(result['data'])}")
        parts.append(f"{count_splits(result)}, by {result['split_by']}")
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


def count_splits(result: Result | Summary) -> str:
    """Return how many splits are done, and of how many."""
    done, count = result["splits_done"], result["splits_all"]
    return "one split" if done == count == 1 else f"{done} of {count} splits"


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


def rows(result: Result | Summary) -> Iterator[tuple[str, str, str]]:
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
        yield name, found(result, name), "; ".join(published.get(name, ()))


def found(result: Result | Summary, measure: str) -> str:
    """Return the figure of a measure as text, a dash if it was not measured."""
    spread = result["measures"].get(measure, {"mean": None, "standard_deviation": None})
    return plus_minus(spread["mean"], spread["standard_deviation"])


def plus_minus(mean: float | None, standard_deviation: float | None) -> str:
    """Return a figure as text, with its standard deviation if it has one; a dash if there is none."""
    if mean is None:
        return "-"
    spread = "" if standard_deviation is None else f" ± {standard_deviation:.3g}"
    return (f"{mean:.3f}" if abs(mean) < 1000 else f"{mean:,.0f}") + spread
