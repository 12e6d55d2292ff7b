"""Every outcome of a study, with objects made as a worker makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.dispatch.selection import select_series
from dicom_node.errors import NotForHilum, RejectedInput
from dicom_node.folder import files_in
from dicom_node.headers import read_series
from dicom_node.settings import ReportSettings, SelectionSettings
from worker.answer import Answer, answer_study
from worker.candidates import Candidates
from worker.findings import LEFT, RIGHT, Flag, Lungs, Mask
from worker.pipeline import Method, ignore_progress
from worker.prior import measure_prior
from worker.volume import read_volume

PAGE = ReportSettings(page=True)
WITH_NOTE = ReportSettings(page=True, rejection_note=True)
TITLED = ReportSettings(title="DCM 126000")
LABELMAP = ReportSettings(segmentation="LABELMAP")
FLAG = Flag("contrast", "A contrast agent was given: it raises the density of vessels and lungs.")
WITHHOLDING = Flag("lung-volume", "The lung volume is outside its range.", withholds_percentage=True)
BEFORE = timedelta(days=2)


@dataclass(frozen=True)
class Study:
    """A study after selection: the files to measure, or the files of all CT images and why they cannot be measured."""

    name: str
    paths: tuple[Path, ...]
    rejection: RejectedInput | None


def studies_in(folder: Path) -> Iterator[Study]:
    """Yield the studies of a folder, numbered where there are several."""
    found = read_series(files_in(folder))
    uids = list(dict.fromkeys(image.study_instance_uid for series in found for image in series.images))
    for number, uid in enumerate(uids or [""], 1):
        of_study = [s for s in found if any(image.study_instance_uid == uid for image in s.images)]
        selection = select_series(of_study, SelectionSettings())
        series = [selection.series] if selection.series else of_study
        name = f"{folder.name} {number}" if len(uids) > 1 else folder.name
        yield Study(name, tuple(image.path for one in series for image in one.ct_images), selection.rejection)


def outcomes_of(study: Study, folder: Path, method: Method) -> Iterator[tuple[str, Answer]]:
    """Yield name and answer of every outcome that applies to a study; nothing for a study that gets no answer.

    The objects are written below the folder.
    """
    if isinstance(study.rejection, NotForHilum):
        return iter(())
    return _of_refused(study, folder, method) if study.rejection else _of_measured(study, folder, method)


def _of_refused(study: Study, folder: Path, method: Method) -> Iterator[tuple[str, Answer]]:
    def answer(name: str, choices: ReportSettings, **given: Any) -> tuple[str, Answer]:
        paths, rejection = study.paths, study.rejection
        return name, answer_study(paths, rejection, folder / name, choices, ignore_progress, method=method, **given)

    name, first = answer("not analysable", PAGE)
    if not first.objects:  # its images cannot be referred to in a report
        return
    yield name, first
    yield answer("revised", WITH_NOTE, earlier=paths_of(first))
    yield answer("titled DCM 126000", TITLED)


def _of_measured(study: Study, folder: Path, method: Method) -> Iterator[tuple[str, Answer]]:
    volume = read_volume(study.paths)
    lungs = method.segment_lungs(volume)
    candidates = method.segment_infection(volume, lungs)

    def found(lungs: Lungs = lungs, candidates: Candidates = candidates, *flags: Flag) -> Method:
        """Return the method with masks that are already there: a network takes seconds, so it runs only once."""
        doubting = candidates._replace(doubts=(*candidates.doubts, *flags))
        return replace(method, segment_lungs=lambda _: lungs, segment_infection=lambda *_: doubting)

    def answer(
        name: str,
        choices: ReportSettings = PAGE,
        method: Method | None = None,
        paths: Sequence[Path] = study.paths,
        **given: Any,
    ) -> tuple[str, Answer]:
        method = method or found()
        return name, answer_study(paths, None, folder / name, choices, ignore_progress, method=method, **given)

    nothing = Candidates(Mask(np.zeros_like(candidates.mask.array), volume.geometry))
    yield (first := answer("as measured"))
    yield answer("nothing found", method=found(lungs, nothing))
    yield answer("flagged", method=found(lungs, candidates, FLAG))
    yield answer("withheld", method=found(lungs, candidates, WITHHOLDING))
    for side, label in (("left", LEFT), ("right", RIGHT)):
        alone = Lungs(np.where(lungs.labels == label, lungs.labels, 0).astype(np.uint8), volume.geometry)
        within = Mask(candidates.mask.array & (alone.labels > 0), volume.geometry)
        yield answer(f"{side} lung alone", method=found(alone, candidates._replace(mask=within)))
    missing = volume.slices[len(volume.slices) // 2].path
    yield answer("not analysable", paths=[path for path in study.paths if path != missing])
    yield answer("revised", WITH_NOTE, earlier=paths_of(first[1]))
    prior = taken_before(study.paths, folder / "prior")
    _, of_prior = answer("report on the prior", paths=prior)
    yield answer("compared with a prior", priors=paths_of(of_prior))
    others = [measure_prior(prior, found(), ignore_progress)]
    yield answer("compared with a prior measured now", others=others)
    yield answer("label maps", LABELMAP)
    yield answer("titled DCM 126000", TITLED)


def paths_of(answer: Answer) -> list[Path]:
    """Return the paths of an answer's objects."""
    return [item.path for item in answer.objects]


def taken_before(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Write a copy of a series as part of another study of the patient, two days earlier; return its paths."""
    folder.mkdir()
    for path in paths:
        ds = dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(ds, keyword, generate_uid(entropy_srcs=[ds[keyword].value]))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        taken = date(int(ds.StudyDate[:4]), int(ds.StudyDate[4:6]), int(ds.StudyDate[6:])) - BEFORE
        ds.StudyDate = taken.strftime("%Y%m%d")
        ds.save_as(folder / path.name)
    return sorted(folder.iterdir())
