"""A folder that somebody names on the command line."""

from __future__ import annotations

import os
from pathlib import Path

from dicom_node.errors import NotForHilum
from dicom_node.headers import SeriesHeader, read_series


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, sorted; each folder that is linked to counts once.

    Raises
    ------
    NotForHilum
        There is no such folder, or a part of it cannot be read: a study with unnoticed gaps would be measured wrongly.
    """
    if not folder.is_dir():
        raise NotForHilum("no-folder", f"expected a folder, got {folder}")

    def refuse(error: OSError) -> None:
        raise NotForHilum("folder-unreadable", f"{error.filename} cannot be read: {error.strerror}") from error

    found: list[Path] = []
    seen: set[Path] = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = Path(parent).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += (Path(parent, name) for name in names)
    return sorted(path for path in found if path.is_file())


def read_one_study(folder: Path) -> list[SeriesHeader]:
    """Return the series of the study in a folder.

    Raises
    ------
    NotForHilum
        The folder cannot be read, holds no DICOM file, or holds files of several studies.
    """
    files = files_in(folder)
    series = read_series(files)
    uids = {image.study_instance_uid for one in series for image in one.images}
    if not uids:
        raise no_dicom(folder, len(files))
    if len(uids) > 1:
        raise NotForHilum(
            "not-one-study", f"expected the DICOM files of one study in {folder}, got {len(uids)} studies"
        )
    return series


def no_dicom(folder: Path, files: int) -> NotForHilum:
    """Return the error for a folder without DICOM files."""
    return NotForHilum("no-dicom", f"expected DICOM files in {folder}; none of its {files} files is one")
