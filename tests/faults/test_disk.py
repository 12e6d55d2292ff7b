"""A disk that is full or read-only: images are answered with Out of Resources, and no acknowledged image is missing."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dicom_node.record.schema import instances
from tests.dicom_node.recording import opened, rows
from tests.faults.senders import Scanner, Study, send_once
from tests.faults.site import Site, site
from tests.services import missing

pytestmark = [pytest.mark.fault, pytest.mark.node]

OUT_OF_RESOURCES = 0xA700
SHAPE = (12, 256, 256)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB that can be made larger or read-only."""
    if os.geteuid() != 0:
        missing("root, who alone mounts a tmpfs,")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=False)
    if mounted.returncode:
        missing("a tmpfs that can be mounted")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(params=["images", "images and record"])
def on_it(request: pytest.FixtureRequest, small_disk: Path, tmp_path: Path) -> Iterator[tuple[Site, Engine]]:
    """A node whose images, or images and record, lie on the small disk."""
    url = f"sqlite:///{tmp_path if request.param == 'images' else small_disk}/record.sqlite3"
    environment = {"HILUM_STORAGE__FOLDER": str(small_disk / "storage")}
    with site(tmp_path / "site", url, [], ("redis", "node"), **environment) as there, opened(url) as record:
        yield there, record


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def send_all(there: Site, studies: list[Study]) -> list[int | None]:
    return [status for study in studies for status in send_once(there.port, study)]


def assert_safe(record: Engine, storage: Path, studies: list[Study]) -> None:
    """Assert that every acknowledged image is recorded, and that the files of recorded images hold what was sent."""
    stored = {str(row["sop_instance_uid"]): row for row in rows(record, instances)}
    assert set(stored) >= {uid for study in studies for uid in study.acknowledged}
    for row in stored.values():
        data_set = (storage / str(row["path"])).read_bytes()[-int(str(row["size_bytes"])) :]
        assert hashlib.sha256(data_set).hexdigest() == row["sha256"]


def test_a_full_disk_refuses_with_out_of_resources_and_loses_nothing(
    small_disk: Path, on_it: tuple[Site, Engine]
) -> None:
    there, record = on_it
    studies = [Scanner(8, SHAPE).study(number) for number in range(9)]
    statuses = send_all(there, studies)
    assert set(statuses) == {0x0000, OUT_OF_RESOURCES}
    assert_safe(record, small_disk / "storage", studies)
    remount(small_disk, "size=100m")
    assert set(send_all(there, studies)) == {0x0000}
    assert_safe(record, small_disk / "storage", studies)
    assert all(not study.unacknowledged for study in studies)


@pytest.mark.parametrize("on_it", ["images"], indirect=True)
def test_a_read_only_disk_refuses_with_out_of_resources_and_loses_nothing(
    small_disk: Path, on_it: tuple[Site, Engine]
) -> None:
    there, record = on_it  # the record is on another disk, because nothing could be recorded on a read-only one
    studies = [Scanner(9, SHAPE).study(number) for number in range(2)]
    assert set(send_all(there, studies[:1])) == {0x0000}
    remount(small_disk, "ro")
    assert set(send_all(there, studies[1:])) == {OUT_OF_RESOURCES}
    remount(small_disk, "rw")
    assert set(send_all(there, studies)) == {0x0000}
    assert_safe(record, small_disk / "storage", studies)
