"""The storage folder that belongs to the record: made once, and later only checked."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, select

from dicom_node.errors import PassingFailure
from dicom_node.files import Files
from dicom_node.record.database import reading
from dicom_node.record.schema import studies


def open_storage(engine: Engine, folder: Path) -> None:
    """Make the folders of the storage, unless the record holds studies already: then they must exist.

    Raises
    ------
    PassingFailure
        The storage is not mounted, or its folders cannot be made.
    """
    require_mounted(engine, folder)
    try:
        Files(folder).make_folders()
    except OSError as error:
        message = f"storage.folder {folder} cannot be made or written: {error.strerror}"
        raise PassingFailure("storage-unusable", message) from error


def require_mounted(engine: Engine, folder: Path) -> None:
    """Check that the storage has its folder of images if the record holds studies.

    Raises
    ------
    PassingFailure
        The record holds studies, but the folder does not exist.
    """
    if Files(folder).has_instances():
        return
    with reading(engine) as connection:
        was_used = connection.scalar(select(studies.c.study_instance_uid).limit(1)) is not None
    if was_used:
        where = folder.absolute()
        found = f"the record holds studies, and {where} none of their images"
        advice = f"mount {where} or move the storage there; if it is lost, make the folder instances in it"
        raise PassingFailure("storage-not-mounted", f"{found}: {advice}")
