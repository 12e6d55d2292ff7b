"""The overview of the page of experiments: one line for each section, and what has none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from training import experiments
from training.datasets import OWN
from training.experiment import Experiment

SHORT = "SHORT: "
"""Begins the description of a short result."""

SPLITS = re.compile(r"; ((\d+) of \d+ splits), by ")
"""How many splits are done, in the description of a result."""


def overview(sections: Mapping[str, str]) -> Iterator[str]:
    """Yield a table with one figure of each section beside its paper's, and the papers' experiments without a section.

    Parameters
    ----------
    sections : mapping
        The sections' Markdown by their titles.
    """
    yield "| experiment | form | measure | here | paper |"
    yield "|---|---|---|---|---|"
    for title in sorted(sections):
        if figure := chief_figure(sections[title]):
            yield f"| [{title}](#{anchor(title)}) | {form(sections[title])} | {' | '.join(figure)} |"
    yield ""
    if missing := list(without_section(sections)):
        yield f"Not yet run here: {', '.join(missing)}."
        yield ""


def chief_figure(section: str) -> tuple[str, str, str] | None:
    """Return (measure, here, paper) of the first Dice that the paper has too, or of its first figure if it has none."""
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")]
    figures = [(measure.strip(), here.strip(), paper.strip()) for measure, here, paper in rows[1:]]
    compared = [figure for figure in figures if figure[1] != "-" and figure[2]]
    return next((figure for figure in compared if "dice" in figure[0]), compared[0] if compared else None)


def form(section: str) -> str:
    """Return in what form an experiment ran: short or not, and over how many splits."""
    splits = SPLITS.search(section)
    done = splits[1] if splits else "measured once"
    return f"short, {done}" if SHORT in section else done


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
