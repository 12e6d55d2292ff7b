"""The papers' tables as the page of experiments begins with them: each figure found here, the paper's beside it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from training import experiments
from training.datasets import OWN
from training.experiment import Experiment

SHORT = "SHORT: "
"""Begins the description of a short result."""

SPLITS = re.compile(r"; ((\d+) of \d+ splits), by ")
"""How many splits are done, in the description of a result."""

RECIPE = re.compile(r"batches of \d+, initial rate [^;]+")
"""What a paper's numbered settings differ in, in the description of a result."""

STATED = re.compile(r"([^; ()][^;()]*) \(([^()]+)\)")
"""A published figure and the place that states it."""

PAPER = re.compile(r".*?(?=, |(?<! al)\. )")
"""Authors and year, or "ours", before the table or the end of the sentence."""

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


def overview(sections: Mapping[str, str]) -> Iterator[str]:
    """Yield each table of each paper with the figures found here, and what is in none of them.

    Parameters
    ----------
    sections : mapping
        The sections' Markdown by their titles.
    """
    tables: dict[str, list[Figure]] = defaultdict(list)
    for figure in (figure for name in sorted(sections) for figure in figures(name, sections[name])):
        tables[figure.table].append(figure)
    for name in sorted(tables, key=lambda name: (name == OURS, name)):
        yield from (f"### {name}", "", *table(tables[name], sections), "")
    compared = {figure.title for group in tables.values() for figure in group}
    if alone := [link(name) for name in sorted(sections) if name not in compared]:
        yield from (f"In no table, as no paper states a figure of them: {', '.join(alone)}.", "")
    if missing := list(without_section(sections)):
        yield from (f"Not yet run here: {', '.join(missing)}.", "")


def figures(title: str, section: str) -> Iterator[Figure]:
    """Yield the figures of a section that its paper has too, once for each table that states them."""
    for line in section.splitlines():
        if not line.startswith("| "):
            continue
        measure, here, published = (cell.strip() for cell in line.split("|")[1:-1])
        structure, _, column = measure.rpartition("/")
        stated: dict[str, list[str]] = defaultdict(list)
        for value, place in STATED.findall(published):
            number, _, note = place.partition(", ")
            if number.startswith("table "):
                stated[f"{paper_of(section)}, {number}"].append(f"{value}, {note}" if note else value)
            else:
                stated[OURS if is_ours(section) else f"{paper_of(section)}, text"].append(f"{value}, {place}")
        for name, values in stated.items():
            yield Figure(name, title, structure, column, f"{here} ({'; '.join(values)})")


def table(group: Sequence[Figure], sections: Mapping[str, str]) -> Iterator[str]:
    """Yield a table of figures: a line for what each experiment segmented, a column for each measure."""
    columns = list(dict.fromkeys(figure.column for figure in group))
    yield f"| experiment | form | of | {' | '.join(columns)} |"
    yield "|---" * (3 + len(columns)) + "|"
    cells: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for figure in group:
        cells[figure.title, figure.structure][figure.column] = figure.cell
    for (title, structure), row in cells.items():
        line = link(title), form(title, sections[title]), structure, *(row.get(column, "") for column in columns)
        yield f"| {' | '.join(line)} |"


def paper_of(section: str) -> str:
    """Return the paper that a section's figures are compared with, which its first paragraph begins with."""
    found = PAPER.match(section.split("\n")[2])
    return found[0] if found else ""


def is_ours(section: str) -> bool:
    """Whether a section is about Hilum's own network, which has goals, and no paper of its own."""
    return paper_of(section) == "ours"


def link(title: str) -> str:
    """Return a link to a section."""
    return f"[{title}](#{anchor(title)})"


def form(title: str, section: str) -> str:
    """Return in what form an experiment ran: short or not, over how many splits, with which of a paper's settings."""
    splits, recipe = SPLITS.search(section), RECIPE.search(section)
    is_setting = experiments.without_number(title) != title
    parts = (
        "short" if SHORT in section else "",
        splits[1] if splits else "measured once",
        recipe[0] if recipe and is_setting else "",
    )
    return ", ".join(filter(None, parts))


def anchor(title: str) -> str:
    """Return the anchor that Markdown gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def without_section(sections: Mapping[str, str]) -> Iterator[str]:
    """Yield the papers' experiments on the data at hand that no section is about, in the order of their list.

    Those that differ only in a setting's number share one name if none of them has a section.
    """
    begun = {experiments.without_number(title) for title in sections}
    absent = (
        name if (shared := experiments.without_number(name)) in begun else shared
        for name, entry in experiments.REGISTRY.items()
        if name not in sections and not entry.paper.startswith("ours") and not is_on_own_scans(entry)
    )
    yield from dict.fromkeys(absent)


def is_on_own_scans(entry: experiments.Entry) -> bool:
    """Whether an experiment reads a site's own scans."""
    return isinstance(entry, Experiment) and bool(set(entry.data) & set(OWN))
