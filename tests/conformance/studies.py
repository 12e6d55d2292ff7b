"""``python -m tests.conformance.studies FOLDER``: validators over every object of every outcome of real studies."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from pydicom import DataElement, Dataset, dcmread
from pydicom.uid import UID

from dicom_node.settings import WorkerSettings
from tests.conformance.document import DOCUMENT, with_tables
from tests.conformance.outcomes import outcomes_of, studies_in
from tests.conformance.validation import DCIODVFY, FIGURES, errors, unexplained
from tests.conformance.validators import TOOLS, ask
from worker.method import choose_method
from worker.reports import WrittenObject

FOLDERS = ("ct-studies", "odd-dicom")
AT_ONCE = 2
NICENESS = 5
CODED = ("SOPClassUID", "CodeValue", "CodingSchemeDesignator")
Form = frozenset[tuple[int, Hashable]]


@dataclass(frozen=True)
class Checked:
    """What the validators reported on the objects of one outcome."""

    study: str
    outcome: str
    objects: int
    looks: int
    """How many times a tool validated an object."""
    errors: int
    unexplained: int


class Validation:
    """Runs every tool that knows an object's SOP class.

    dciodvfy validates every object. PixelMed, which takes seconds per file, validates one object of each structure.
    """

    def __init__(self) -> None:
        self.unknown: set[tuple[str, str]] = set()
        self._seen: set[tuple[str, Form]] = set()
        self._lock = Lock()

    def check(self, study: str, outcome: str, objects: tuple[WrittenObject, ...]) -> Checked:
        """Validate the objects of an outcome with the tools, and print errors and unexplained warnings."""
        pairs = [(tool, item) for item in objects for tool in TOOLS]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            said = [lines for lines in pool.map(lambda pair: self._look(*pair), pairs) if lines is not None]
        wrong = [line for one in said for line in one if line.startswith("Error")]
        doubtful = [line for one in said for line in one if not line.startswith("Error")]
        for line in dict.fromkeys([*wrong, *doubtful]):
            say(f"    {line}")
        return Checked(study, outcome, len(objects), len(said), len(wrong), len(doubtful))

    def _look(self, tool: str, item: WrittenObject) -> list[str] | None:
        """Return errors and unexplained warnings; None if the tool does not validate the object."""
        known_not = (tool, item.sop_class_uid)
        if known_not in self.unknown or (tool != DCIODVFY and not self._is_new(tool, item)):
            return None
        said = ask(tool, item.path)
        if said is None:
            with self._lock:
                if known_not not in self.unknown:
                    self.unknown.add(known_not)
                    say(f"    {tool} does not know {UID(item.sop_class_uid).name}: left out there")
            return None
        return [f"{line} [{tool}, {item.kind}]" for line in (*errors(tool, said), *unexplained(tool, said))]

    def _is_new(self, tool: str, item: WrittenObject) -> bool:
        form = tool, form_of(dcmread(item.path, stop_before_pixels=True))
        with self._lock:
            is_new = form not in self._seen
            self._seen.add(form)
        return is_new


def form_of(ds: Dataset) -> Form:
    """Return an object's structure: its attributes, and those of distinct items in its sequences.

    Of codes and code strings the structure holds the values, of all other attributes whether they are empty.
    """
    return frozenset((element.tag, _value(element)) for element in ds)


def _value(element: DataElement) -> Hashable:
    if element.VR == "SQ":
        return frozenset(map(form_of, element.value))
    return str(element.value) if element.VR == "CS" or element.keyword in CODED else element.is_empty


def check_studies(folder: Path, validation: Validation) -> Iterator[Checked]:
    """Yield the reports on each outcome of each study; the default method measures each study once."""
    method = choose_method(WorkerSettings())
    for part in sorted(path for name in FOLDERS for path in (folder / name).iterdir() if path.is_dir()):
        for study in studies_in(part):
            is_answered = False
            with tempfile.TemporaryDirectory() as name:
                for outcome, answer in outcomes_of(study, Path(name), method):
                    is_answered = True
                    say(f"{study.name}, {outcome}: {answer.ending.outcome}, {len(answer.objects)} objects")
                    yield validation.check(study.name, f"{outcome}: {answer.ending.outcome}", answer.objects)
            if not is_answered:
                say(f"{study.name}: nothing is sent ({study.rejection})")
                yield Checked(study.name, "nothing is sent", 0, 0, 0, 0)


def say(line: str) -> None:
    """Print a line about the progress to standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    """Print a table; return 1 if a validator finds an error or an unexplained warning, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.studies", description=__doc__)
    parser.add_argument("folder", type=Path, help="with the folders ct-studies and odd-dicom")
    parser.add_argument("--write-docs", action="store_true", help="keep the counts for docs/conformance.md")
    arguments = parser.parse_args()
    os.nice(NICENESS)
    warnings.simplefilter("ignore")  # pydicom warns of each malformed value of the sources
    validation = Validation()
    checked = list(check_studies(arguments.folder, validation))
    sys.stdout.write(f"{'study':20} {'outcome':50} objects looks errors unexplained\n")
    for row in checked:
        sys.stdout.write(
            f"{row.study:20} {row.outcome:50} {row.objects:7} {row.looks:5} {row.errors:6} {row.unexplained:11}\n"
        )
    if arguments.write_docs:
        today = datetime.now(UTC).date().isoformat()
        found = {"checked_at": today, "rows": [asdict(row) for row in checked]}
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return int(any(row.errors or row.unexplained for row in checked))


if __name__ == "__main__":
    sys.exit(main())
