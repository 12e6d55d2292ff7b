"""``hilum analyze``: measure the study in a folder and write the results into another folder, without a queue."""

from __future__ import annotations

import argparse
import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicom_node.dispatch.selection import select_series
from dicom_node.errors import NotForHilum, RejectedInput, SettingsError
from dicom_node.figures import format_percent
from dicom_node.files import PRIVATE_FOLDER
from dicom_node.folder import read_one_study
from dicom_node.log import configure_logging
from dicom_node.settings import Settings, load_settings
from dicom_node.study import JobState
from dicom_node.terminal import progress_cleared, show_progress
from worker.answer import Answer, answer_study
from worker.method import choose_method, use_threads
from worker.pipeline import Method
from worker.prior import choose_series, measure_prior, require_earlier
from worker.reports.history import Prior


def run_analyze(arguments: argparse.Namespace) -> int:
    """Measure a study and print its result; return 1 if it could not be measured, else 0."""
    settings = load_settings()
    configure_logging("analyze")
    use_threads(settings.worker.threads)
    found = read_one_study(arguments.folder)
    selection = select_series(found, settings.selection)
    if isinstance(selection.rejection, NotForHilum):
        raise selection.rejection
    make_writable(arguments.out)
    series = [selection.series] if selection.series else found
    paths = [image.path for one in series for image in one.ct_images]
    method = choose_method(settings.worker)
    with progress_cleared():
        priors = [] if selection.rejection else list(measured_priors(arguments.prior, paths, settings, method))
        remove_result(arguments.out)
        answer = answer_study(
            paths,
            selection.rejection,
            arguments.out,
            settings.report,
            show_stage,
            method=method,
            others=priors,
        )
    print_answer(answer, arguments.out)
    return 0 if answer.ending.state is JobState.DONE else 1


def measured_priors(
    folders: Sequence[Path], now: Sequence[Path], settings: Settings, method: Method
) -> Iterator[Prior]:
    """Measure the prior studies in these folders and yield them; all are checked before the first is measured.

    Raises
    ------
    RejectedInput
        One of them is not an earlier study of the patient, or cannot be measured; the command then fails.
    """
    chosen = {folder: series_of_prior(folder, now, settings) for folder in folders}
    for folder, paths in chosen.items():
        with named(folder):
            yield measure_prior(paths, method, lambda stage, share: show_stage(f"the prior: {stage}", share))


def series_of_prior(folder: Path, now: Sequence[Path], settings: Settings) -> list[Path]:
    """Return the files of the series to measure in a prior study."""
    with named(folder):
        paths = choose_series(read_one_study(folder), settings.selection)
        require_earlier(paths, now)
        return paths


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Name the prior's folder in the message of a rejection."""
    try:
        yield
    except RejectedInput as rejection:
        raise type(rejection)(rejection.code, f"--prior {folder}: {rejection.message}") from rejection


def make_writable(out: Path) -> None:
    """Create the results folder, closed to other users, unless it exists.

    Raises
    ------
    SettingsError
        It is not writable. This is checked before the study is measured, which takes about a minute.
    """
    try:
        out.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SettingsError("out-unwritable", f"--out {out} cannot be written: {error.strerror}") from error


def remove_result(out: Path) -> None:
    """Remove an earlier result from a folder, so that no other patient's objects stay beside the new ones.

    Only the files that its results.json names are removed, and results.json and key-image.png themselves.
    """
    try:
        written = json.loads((out / "results.json").read_text(encoding="utf-8"))["objects"]
        names = [str(item["path"]) for item in written]
    except (OSError, ValueError, TypeError, KeyError):
        return
    for name in (*names, "key-image.png", "results.json"):
        if Path(name).name == name and (out / name).is_file():
            (out / name).unlink()


def show_stage(stage: str, share: float) -> None:
    """Show the current stage and the share of the work done before it."""
    show_progress(f"{share:4.0%} {stage}")


def print_answer(answer: Answer, out: Path) -> None:
    """Print the result and the paths of its objects."""
    if answer.ending.state is JobState.DONE:
        percent = answer.ending.infected_percent
        told = "no percentage given; results.json says why"
        print(told if percent is None else f"PoIR {format_percent(percent)} of the lung")
    else:
        print(f"not measured: {answer.ending.message}")
    for item in answer.objects:
        print(f"{item.kind:<10}  {item.path}")
    if answer.objects:
        print(f"results     {out / 'results.json'}")
