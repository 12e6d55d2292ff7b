"""The record goes on to find its files after the storage was moved or restored elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dicom_node.deliver.outbox import Outbox
from dicom_node.dispatch.jobs import Jobs
from dicom_node.dispatch.received import instances_of
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.record.retention import Retention
from dicom_node.record.schema import instances, results
from dicom_node.settings import DeliverySettings, JobSettings
from dicom_node.study import Reception
from tests.dicom_node.record.storing import answer_study, mark_sent, settings_with_retention, store_study
from tests.dicom_node.recording import STUDY, Clock, instance, make_job, opened, receive, rows


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A storage that is going to be moved."""
    return tmp_path / "old"


@pytest.fixture
def before(record_url: str, old: Path) -> Iterator[Engine]:
    """The record while the storage is where it was."""
    with opened(record_url, old) as engine:
        yield engine


def test_images_and_results_are_found_where_the_storage_was_moved(
    record_url: str, before: Engine, old: Path, tmp_path: Path
) -> None:
    images, found = store_study(before, Files(old)), answer_study(before, Files(old))
    new = old.rename(tmp_path / "new")
    with opened(record_url, new) as engine:
        assert [one.path for one in instances_of(engine, STUDY)] == [new / path.relative_to(old) for path in images]
        _, due = Outbox(engine, DeliverySettings()).claim("PACS")
        job = Jobs(engine, JobSettings()).claim(make_job(engine, instances=3))
    moved = [new / path.relative_to(old) for path in found]
    assert [delivery.result.path for delivery in due] == moved
    assert job
    assert list(job.earlier) == moved
    assert all(path.read_bytes() == b"result" for path in moved)


def test_an_image_that_is_sent_again_after_its_file_was_lost_is_the_one_that_the_record_names(
    record_url: str, before: Engine, old: Path, tmp_path: Path
) -> None:
    store_study(before, Files(old), count=1)
    again = Files(tmp_path / "new")
    one = instance(f"{STUDY}.1.0")
    path = again.instance_path(STUDY, one.series_instance_uid, one.sop_instance_uid, one.sha256)
    again.write(path, [b"image"])
    with opened(record_url, tmp_path / "new") as engine:
        assert receive(Intake(engine), replace(one, path=path)) == [Reception.IDENTICAL]
        assert [stored.path for stored in instances_of(engine, STUDY)] == [path]


def test_retention_removes_a_moved_study_with_its_files(
    record_url: str, before: Engine, old: Path, tmp_path: Path, clock: Clock
) -> None:
    store_study(before, Files(old))
    answer_study(before, Files(old))
    mark_sent(before)
    new = old.rename(tmp_path / "new")
    clock.pass_(2 * 86400)
    with opened(record_url, new) as engine:
        kept = [one.path for one in instances_of(engine, STUDY)]
        assert all(path.exists() for path in kept)
        Retention(engine, settings_with_retention(new)).turn()
        assert rows(engine, instances) == []
    assert not any(path.exists() for path in kept)


def test_a_relative_storage_folder_is_the_one_in_the_working_folder(
    record_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(record_url, Path("storage")) as engine:
        (path,) = store_study(engine, Files(Path("storage")), count=1)
        assert not Path(str(rows(engine, instances)[0]["path"])).is_absolute()
        assert [one.path for one in instances_of(engine, STUDY)] == [path]


def test_a_file_outside_the_storage_keeps_its_path(record_url: str, before: Engine, tmp_path: Path) -> None:
    outside = Files(tmp_path / "older")  # a name that begins with the storage's
    images, found = store_study(before, outside), answer_study(before, outside)
    with opened(record_url, tmp_path / "new") as engine:
        assert [one.path for one in instances_of(engine, STUDY)] == images
        assert [row["path"] for row in rows(engine, results)] == [str(path) for path in found]
