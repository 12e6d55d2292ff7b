"""The storage beside the record: created once, and later only checked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from dicom_node.errors import PassingFailure
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.record.storage import open_storage
from tests.dicom_node.recording import instance, receive


def test_a_node_that_received_nothing_makes_its_storage(record: Engine, tmp_path: Path) -> None:
    for _ in range(2):
        open_storage(record, tmp_path / "new" / "storage")
    Files(tmp_path / "new" / "storage").require_working()


def test_one_that_did_finds_its_storage_or_does_not_start(record: Engine, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    open_storage(record, storage)
    receive(Intake(record), instance())
    open_storage(record, storage)
    storage.rename(tmp_path / "unmounted")
    storage.mkdir()
    with pytest.raises(PassingFailure, match=f"mount {storage} or move the storage there; if it is lost, make"):
        open_storage(record, storage)
    assert list(storage.iterdir()) == []
    (storage / "instances").mkdir()
    open_storage(record, storage)


def test_a_storage_that_cannot_be_made_is_named(record: Engine, tmp_path: Path) -> None:
    (tmp_path / "storage").touch()
    with pytest.raises(PassingFailure, match=f"{tmp_path / 'storage'} cannot be made or written"):
        open_storage(record, tmp_path / "storage")
