"""Write files and folders completely or not at all."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dicom_node.errors import SettingsError
from dicom_node.files import sync, sync_tree

PARTIAL = ".partial"
"""Suffix of the names of files and folders that are not complete yet, or were interrupted."""


LOCK = "trial.lock"
"""File in a run's folder from its beginning on."""


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside the path, sync it, and rename it into place.

    Whoever opens the path, even after a power cut, finds the old content or the new one.
    """
    partial = path.with_name(f"{path.name}{PARTIAL}")
    write(partial)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def refuse_unwritable(path: Path) -> None:
    """Refuse, before the work for it begins, a file to write that a user named, if it cannot be written.

    Raises
    ------
    SettingsError
        When the path is a folder, or its folder is missing or may not be written to.
    """
    if path.is_dir():
        raise SettingsError("is-folder", f"{path} is a folder; name a file to write")
    if not path.parent.is_dir():
        raise SettingsError("no-folder", f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise SettingsError("no-access", f"{path} cannot be written: {path.parent} may not be written to")


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yield a partial folder to fill; if the ``with`` block succeeds, it is synced and renamed to ``folder`` at once.

    A partial folder that a killed process left is removed first.
    """
    partial = folder.with_name(f"{folder.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        sync_tree(partial)
        partial.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON that a person can read, whole or not at all; NaN and infinities become null."""
    text = json.dumps(finite_or_none(content), indent=2, allow_nan=False) + "\n"
    replace_file(path, lambda partial: partial.write_text(text))


def read_json(path: Path) -> Any:
    """Return the content of a file that ``write_json`` wrote.

    Raises
    ------
    SettingsError
        When the file is no JSON, for example because a copy of it was cut short.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise SettingsError("damaged-file", f"{path}: is no whole JSON file ({error})") from error


@contextmanager
def refusing_damaged(path: Path, remedy: str) -> Iterator[None]:
    """Turn what NumPy, torch and safetensors raise on a file that is missing or was cut short into a SettingsError.

    Parameters
    ----------
    remedy : str
        What the user should do if the file is damaged.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise SettingsError(
            "damaged-file", f"{path}: cannot be read whole ({error}); if it is damaged, {remedy}"
        ) from error


def finite_or_none(content: object) -> object:
    """Return JSON content with None for the numbers that JSON does not have: NaN and infinities."""
    match content:
        case dict():
            return {key: finite_or_none(value) for key, value in content.items()}
        case list() | tuple():
            return [finite_or_none(value) for value in content]
        case float() if not math.isfinite(content):
            return None
    return content
