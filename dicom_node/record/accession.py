"""Studies by Accession Number. The record does not hold it; the stored objects do."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, func, select

from dicom_node.deflated import read_bounded
from dicom_node.headers import UNREADABLE
from dicom_node.record.database import reading
from dicom_node.record.schema import instances


def studies_with(engine: Engine, accession_number: str) -> list[str]:
    """Return the studies whose first image has an Accession Number; those whose files were removed are not found."""
    firsts = select(func.min(instances.c.instance_id)).group_by(instances.c.study_instance_uid)
    query = select(instances.c.study_instance_uid, instances.c.path).where(instances.c.instance_id.in_(firsts))
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return [row.study_instance_uid for row in rows if accession_number_in(Path(row.path)) == accession_number]


def accession_number_in(path: Path) -> str | None:
    """Return the Accession Number of a stored object; None where it has none, or cannot be read."""
    try:
        ds = read_bounded(path, stop_before_pixels=True, specific_tags=["AccessionNumber"])
    except UNREADABLE:
        return None
    return str(ds.get("AccessionNumber") or "").strip() or None
