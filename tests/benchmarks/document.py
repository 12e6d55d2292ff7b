"""docs/performance.md, written from the latest measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from tests.benchmarks.comparison import HILUM, in_order
from tests.benchmarks.curves import write_curves
from tests.benchmarks.machine import REPOSITORY

FIGURES = REPOSITORY / "docs" / "performance.json"
DOCUMENT = REPOSITORY / "docs" / "performance.md"
PLOTS = REPOSITORY / "docs" / "images" / "performance"
README = REPOSITORY / "README.md"

IN_README = (
    ("receive", "one association", "Receiving, one sender"),
    ("receive", "8 associations", "Receiving, eight senders"),
    ("pipeline", "the whole", "Measuring 300 slices and writing the results"),
    ("pipeline", "peak memory (resident)", "Most memory of that"),
    (
        "end_to_end",
        "300 slices, last instance to last result",
        "From the last of 300 slices to the results in the PACS",
    ),
    ("memory", "receiver, idle", "Memory of the node (PSS), idle"),
    ("memory", "receiver, after 300 instances", "Memory of the node (PSS), after 300 instances"),
)
"""Benchmark, title of its table, and label of the row in the README."""

HEAD = """\
# Performance

Written by `hilum bench --write-docs` (in a checkout where `deploy/test` ran), from docs/performance.json; do not edit.
Each section comes from one run on one machine, in which Hilum and its peers took turns. Compare figures of one section
only: each names its date, its machine and how busy that was. Values are medians, with the least and the greatest of all
rounds. A ratio compares Hilum with a peer within each round, and says how many times better Hilum is.
"""


def write_document(sections: dict[str, Any], benchmarks: Mapping[str, ModuleType]) -> None:
    """Save the figures of these benchmarks beside the earlier ones of others; write document, plots and README.

    The words on all of them are the benchmarks' own of today, because those kept with earlier figures may be outdated.
    """
    kept = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    kept |= sections
    for name, found in kept.items():
        found |= {"title": benchmarks[name].TITLE, "text": benchmarks[name].TEXT}
    for name in sections:
        if curves := [comparison for comparison in kept[name]["comparisons"] if comparison.get("along")]:
            write_curves(PLOTS / f"{name}.png", curves)
    FIGURES.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    DOCUMENT.write_text("\n".join([HEAD, *(section(name, kept[name]) for name in sorted(kept))]), encoding="utf-8")
    README.write_text(with_figures(README.read_text(encoding="utf-8"), kept), encoding="utf-8")


def with_figures(text: str, kept: dict[str, Any]) -> str:
    """Return the README with a new table of figures between the two comments that mark its place."""
    begin, end = "<!-- figures: hilum bench --write-docs -->\n", "<!-- end of figures -->"
    before, _, rest = text.partition(begin)
    return before + begin + "\n".join(readme_rows(kept)) + "\n" + end + rest.partition(end)[2]


def readme_rows(kept: dict[str, Any]) -> Iterator[str]:
    """Yield the rows of the README's table; figures that were never measured have none."""
    yield "| | Hilum | Orthanc |"
    yield "|---|---:|---:|"
    for name, title, label in IN_README:
        for found in kept.get(name, {}).get("comparisons", ()):
            if found["title"] == title:
                medians = [found["contenders"].get(peer, {}).get("median") for peer in (HILUM, "Orthanc")]
                told = ["" if value is None else f"{number(value)} {found['unit']}" for value in medians]
                yield f"| {label} | {' | '.join(told)} |"


def section(name: str, found: dict[str, Any]) -> str:
    """Return the section of one benchmark."""
    machine = found["machine"]
    origin = (
        f"Measured {found['measured_at']} at {found['commit']}, {found['rounds']} rounds: {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['file_system']}, {machine['system']}, "
        f"Python {machine['python']}; load before: {machine['load_before']}."
    )
    plot = PLOTS / f"{name}.png"
    plots = [f"![{found['title']}]({plot.relative_to(DOCUMENT.parent)})"] if plot.is_file() else []
    tables = [table(comparison) for comparison in found["comparisons"]]
    parts = [f"## {found['title']}", f"`hilum bench {name}`", found["text"], *plots, *tables, origin]
    return "\n\n".join(parts) + "\n"


def table(comparison: dict[str, Any]) -> str:
    """Return the table of one comparison."""
    contenders = in_order(comparison)
    compared = any(contender["hilum_is_better_by"] for contender in contenders.values())
    head = [comparison["title"], comparison["unit"], "least to greatest"] + ["Hilum is better by"] * compared
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    along = comparison.get("along")
    for contender_name, contender in contenders.items():
        name = f"{int(contender_name):,} {along}" if along else contender_name
        values, ratio = contender["values"], contender["hilum_is_better_by"]
        row = [name, number(contender["median"]), f"{number(min(values))} to {number(max(values))}"]
        if compared:
            row.append("" if name == HILUM else "{median:.2f}x ({least:.2f} to {greatest:.2f})".format(**ratio))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def number(value: float) -> str:
    """Return a value with about three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
