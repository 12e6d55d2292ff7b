"""The papers' tables as the page of experiments begins with them: each figure found here, the paper's beside it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from training import experiments
from training.datasets import OWN
from training.experiment import Experiment
from training.summary import Summary, count_splits, found, plus_minus

OURS = "Hilum's own networks"
"""The title of the table of what no paper trained, beside the goals that were set."""


class Figure(NamedTuple):
    """A figure found here beside its paper's: the cell of a table."""

    table: str
    """As in "Wu et al. 2020, table 1"."""
    title: str
    """Of the section that the figure is from."""
    structure: str
    """What was segmented, behind "last_epoch/" and the like; empty if a measure is of all."""
    column: str
    """The measure."""
    cell: str


def overview(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Yield each table of each paper with the figures found here, and what is in none of them.

    Parameters
    ----------
    summaries : mapping
        By the titles of their sections.
    """
    tables: dict[str, list[Figure]] = defaultdict(list)
    for figure in (figure for name in sorted(summaries) for figure in figures(name, summaries[name])):
        tables[figure.table].append(figure)
    for name in sorted(tables, key=lambda name: (name == OURS, name)):
        yield from (f"### {name}", "", *table(tables[name], summaries), "")
    compared = {figure.title for group in tables.values() for figure in group}
    if alone := [link(name) for name in sorted(summaries) if name not in compared]:
        yield from (f"In no table, as no paper states a figure of them: {', '.join(alone)}.", "")
    if missing := list(not_run(summaries)):
        yield from (f"Not yet run here: {', '.join(missing)}.", "")


def figures(title: str, summary: Summary) -> Iterator[Figure]:
    """Yield the figures that the paper has too, once for each table that states them."""
    paper = summary["paper"].partition(", ")[0]
    stated: dict[tuple[str, str], list[str]] = defaultdict(list)
    for published in summary["published"]:
        value = plus_minus(published["mean"], published["standard_deviation"])
        place, _, note = published["place"].partition(", ")
        if place.startswith("table "):
            stated[published["measure"], f"{paper}, {place}"].append(f"{value}, {note}" if note else value)
        else:
            name = OURS if paper == "ours" else f"{paper}, text"
            stated[published["measure"], name].append(f"{value}, {published['place']}")
    for (measure, name), values in stated.items():
        structure, _, column = measure.rpartition("/")
        yield Figure(name, title, structure, column, f"{found(summary, measure)} ({'; '.join(values)})")


def table(group: Sequence[Figure], summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Yield a table of figures: a line for what each experiment segmented, a column for each measure."""
    columns = list(dict.fromkeys(figure.column for figure in group))
    yield f"| experiment | form | of | {' | '.join(columns)} |"
    yield "|---" * (3 + len(columns)) + "|"
    cells: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for figure in group:
        cells[figure.title, figure.structure][figure.column] = figure.cell
    for (title, structure), row in cells.items():
        line = link(title), form(summaries[title]), structure, *(row.get(column, "") for column in columns)
        yield f"| {' | '.join(line)} |"


def link(title: str) -> str:
    """Return a link to a section."""
    return f"[{title}](#{anchor(title)})"


def form(summary: Summary) -> str:
    """Return in what form an experiment ran: short or not, over how many splits, with which of a paper's settings."""
    is_setting = experiments.without_number(summary["experiment"]) != summary["experiment"]
    parts = (
        "short" if summary["short"] else "",
        count_splits(summary) if summary["splits_all"] else "measured once",
        summary["length"].partition(", ")[2] if is_setting else "",
    )
    return ", ".join(filter(None, parts))


def anchor(title: str) -> str:
    """Return the anchor that Markdown gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def not_run(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Yield the papers' experiments on the data at hand that have not run, in the order of their list.

    Those that differ only in a setting's number share one name if none of them has run.
    """
    run = {summary["experiment"] for summary in summaries.values()}
    begun = {experiments.without_number(name) for name in run}
    absent = (
        name if (shared := experiments.without_number(name)) in begun else shared
        for name, entry in experiments.REGISTRY.items()
        if name not in run and not entry.paper.startswith("ours") and not is_on_own_scans(entry)
    )
    yield from dict.fromkeys(absent)


def is_on_own_scans(entry: experiments.Entry) -> bool:
    """Whether an experiment reads a site's own scans."""
    return isinstance(entry, Experiment) and bool(set(entry.data) & set(OWN))
