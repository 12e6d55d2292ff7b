"""The storage beside the record: made once, and later only looked for."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, select

from dicom_node.errors import PassingFailure
from dicom_node.files import Files
from dicom_node.record.database import reading
from dicom_node.record.schema import studies


def open_storage(engine: Engine, folder: Path) -> None:
    """Make the folders of the storage, unless the record knows that they were made long ago.

    Raises
    ------
    PassingFailure
        The storage is not there, or cannot be made.
    """
    require_mounted(engine, folder)
    try:
        Files(folder).make_folders()
    except OSError as error:
        message = f"storage.folder {folder} cannot be made or written: {error.strerror}"
        raise PassingFailure("storage-unusable", message) from error


def require_mounted(engine: Engine, folder: Path) -> None:
    """See that images lie where the record holds studies.

    Raises
    ------
    PassingFailure
        The folder of all images is not there.
    """
    if Files(folder).has_instances():
        return
    with reading(engine) as connection:
        was_used = connection.scalar(select(studies.c.study_instance_uid).limit(1)) is not None
    if was_used:
        where = folder.absolute()
        found = f"the record holds studies, and {where} none of their images"
        advice = f"mount {where}, or where it is new make the folder instances in it"
        raise PassingFailure("storage-not-mounted", f"{found}: {advice}")
