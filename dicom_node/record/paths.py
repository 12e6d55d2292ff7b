"""How the record names files: relative to the storage folder, so that this may be moved, or restored elsewhere.

The engine knows the folder. A file that lies elsewhere, because storage.folder was changed while the record still named
absolute paths, keeps its own.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine

STORAGE = "storage"
"""The execution option of engines, inherited by their connections, that holds the storage folder."""


def set_storage(engine: Engine, folder: Path) -> None:
    """Let the paths in a record be relative to this folder."""
    engine.update_execution_options(**{STORAGE: folder.absolute()})


def storage_of(record: Engine | Connection) -> Path:
    """Return the absolute path of the folder to which the paths in a record are relative."""
    folder: Path = record.get_execution_options()[STORAGE]
    return folder


def as_recorded(record: Engine | Connection, path: Path) -> str:
    """Return the path of a file as the record names it."""
    return str(path).removeprefix(f"{storage_of(record)}/")


def as_file(record: Engine | Connection, recorded: str) -> Path:
    """Return the path at which a file is that the record names."""
    return storage_of(record) / recorded  # an absolute path stays as it is
