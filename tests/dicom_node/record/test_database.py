"""Opening the record, and its migrations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.record.database import (
    LATEST_REVISION,
    LOG_BYTES,
    MIGRATIONS,
    current_revision,
    lengthen_log,
    make_engine,
    open_database,
    reading,
)
from dicom_node.record.schema import associations, instances, jobs, metadata, results, studies
from tests.dicom_node.recording import STORAGE, opened, rows
from tests.services import free_port

ASSOCIATION = dict.fromkeys(("calling_ae_title", "called_ae_title", "peer_address"), "") | {
    "association_id": "a",
    "opened_at": 0.0,
}


def migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def instance_row(sop_instance_uid: str) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(("series_instance_uid", "sop_class_uid", "transfer_syntax_uid"), "1")
    row |= {"study_instance_uid": "1", "sop_instance_uid": sop_instance_uid, "sha256": "0", "path": ""}
    return row | {"association_id": "a", "stored_at": 0.0}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.node)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/record.sqlite3"
    return str(request.getfixturevalue("postgres_url"))


def test_migrations_from_empty_give_the_schema(empty_url: str) -> None:
    with opened(empty_url) as engine, engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_opening_again_changes_nothing(empty_url: str) -> None:
    with opened(empty_url) as engine, engine.begin() as connection:
        connection.execute(
            studies.insert().values(study_instance_uid="1", state="receiving", priority="routine", first_instance_at=0)
        )
    with opened(empty_url) as engine:
        assert len(rows(engine, studies)) == 1
        assert current_revision(engine) == LATEST_REVISION


def record_of(revision: str, url: str) -> Engine:
    """Return an engine on a record with the schema of an earlier revision."""
    engine, config = make_engine(url, must_exist=False), migrations()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine


def test_the_latest_revision_is_the_head_of_the_migrations() -> None:
    assert ScriptDirectory.from_config(migrations()).get_heads() == [LATEST_REVISION]


def test_a_record_with_instances_of_before_takes_larger_ones_and_keeps_those(empty_url: str) -> None:
    earlier = record_of("0004", empty_url)
    with earlier.begin() as connection:
        connection.execute(
            text("INSERT INTO studies (study_instance_uid, state, priority, first_instance_at) VALUES ('1', '', '', 0)")
        )
        connection.execute(associations.insert().values(ASSOCIATION))
        connection.execute(instances.insert().values(**instance_row("before"), size_bytes=2**31 - 1))
    earlier.dispose()
    with opened(empty_url) as engine:
        with engine.begin() as connection:
            connection.execute(instances.insert().values(**instance_row("after"), size_bytes=2**32))
        assert [row["size_bytes"] for row in rows(engine, instances)] == [2**31 - 1, 2**32]


def test_a_record_of_before_gets_its_indexes_and_keeps_what_it_holds(empty_url: str) -> None:
    earlier = record_of("0006", empty_url)
    with earlier.begin() as connection:
        connection.execute(
            studies.insert().values(study_instance_uid="1", state="", priority="routine", first_instance_at=0)
        )
        connection.execute(associations.insert().values(ASSOCIATION))
        connection.execute(instances.insert().values(**instance_row("before"), size_bytes=1))
    earlier.dispose()
    with opened(empty_url) as engine:
        assert [row["sop_instance_uid"] for row in rows(engine, instances)] == ["before"]
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_results_of_before_are_of_the_answers_that_their_revisions_gave(empty_url: str) -> None:
    earlier = record_of("0007", empty_url)
    with earlier.begin() as connection:
        connection.execute(
            studies.insert().values(study_instance_uid="1", state="", priority="routine", first_instance_at=0)
        )
        for number in (1, 2):
            job = {"job_id": f"job {number}", "study_instance_uid": "1", "input_sha256": str(number)}
            job |= dict.fromkeys(("priority", "state"), "") | dict.fromkeys(("created_at", "due_at"), 0.0)
            connection.execute(jobs.insert().values(**job, revision=number))
            connection.execute(
                text("INSERT INTO results VALUES (:sop, :job, '', '', 'report', 0, '')"),
                {"sop": f"1.{number}", "job": f"job {number}"},
            )
    earlier.dispose()
    with opened(empty_url) as engine:
        assert {row["sop_instance_uid"]: row["answer"] for row in rows(engine, results)} == {"1.1": 1, "1.2": 2}


def test_paths_of_before_become_relative_to_the_storage_if_they_lie_in_it(empty_url: str) -> None:
    earlier = record_of("0008", empty_url)
    before = {"in it": "/data/hilum/instances/1.dcm", "beside": "/data/hilum2/1.dcm", "other case": "/Data/hilum/1.dcm"}
    job = {"job_id": "job", "study_instance_uid": "1", "input_sha256": "", "revision": 1}
    job |= dict.fromkeys(("priority", "state"), "") | dict.fromkeys(("created_at", "due_at"), 0.0)
    result = dict.fromkeys(("sop_class_uid", "transfer_syntax_uid", "kind"), "") | {"job_id": "job", "position": 0}
    with earlier.begin() as connection:
        connection.execute(
            studies.insert().values(study_instance_uid="1", state="", priority="routine", first_instance_at=0)
        )
        connection.execute(associations.insert().values(ASSOCIATION))
        connection.execute(jobs.insert().values(job))
        for name, path in before.items():
            connection.execute(instances.insert().values(instance_row(name) | {"size_bytes": 1, "path": path}))
            connection.execute(results.insert().values(**result, sop_instance_uid=name, path=path))
    earlier.dispose()
    with opened(empty_url, Path("/data/hilum")) as engine:
        for table in (instances, results):
            after = {str(row["sop_instance_uid"]): row["path"] for row in rows(engine, table)}
            assert after == before | {"in it": "instances/1.dcm"}


@pytest.mark.parametrize(("table", "column"), [("job_inputs", "instance_id"), ("instances", "association_id")])
def test_what_refers_to_a_row_that_goes_is_found_by_an_index(sqlite_url: str, table: str, column: str) -> None:
    """SQLite looks for such references at each deleted row, while no other connection can write."""
    question = text(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 1")  # noqa: S608 - our own names
    with opened(sqlite_url) as engine, reading(engine) as connection:
        (plan,) = connection.execute(question)
    assert plan.detail.startswith(f"SEARCH {table} ")


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    code = f"from tests.dicom_node.recording import opened\nwith opened({empty_url!r}): pass"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    with opened(empty_url) as engine:
        assert current_revision(engine) == LATEST_REVISION


def test_a_record_of_a_newer_hilum_is_refused(empty_url: str) -> None:
    with opened(empty_url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="9999"):
        open_database(empty_url, STORAGE)


def test_sqlite_is_durable_and_checks_foreign_keys(sqlite_url: str) -> None:
    with opened(sqlite_url) as engine, reading(engine) as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_an_instance_without_its_study_is_refused(record_url: str) -> None:
    row = dict.fromkeys(("series_instance_uid", "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid"), "1")
    row |= {"study_instance_uid": "none", "sha256": "0", "path": "", "association_id": "none"}
    with opened(record_url) as engine, pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(instances.insert().values(**row, size_bytes=0, stored_at=0.0))


def test_a_reader_sees_one_moment_and_holds_up_no_writer(record_url: str) -> None:
    study = {"study_instance_uid": "1", "state": "receiving", "priority": "routine", "first_instance_at": 0.0}
    with opened(record_url) as engine, reading(engine) as reader:
        assert reader.execute(text("SELECT count(*) FROM studies")).scalar() == 0
        with engine.begin() as writer:
            writer.execute(studies.insert().values(**study))
        assert reader.execute(text("SELECT count(*) FROM studies")).scalar() == 0


def test_a_transaction_that_fails_leaves_nothing(record_url: str) -> None:
    study = {"study_instance_uid": "1", "state": "receiving", "priority": "routine", "first_instance_at": 0.0}
    with opened(record_url) as engine:

        def insert_twice() -> None:
            with engine.begin() as connection:
                connection.execute(studies.insert().values(**study))
                connection.execute(studies.insert().values(**study))

        with pytest.raises(IntegrityError):
            insert_twice()
        assert rows(engine, studies) == []


@pytest.mark.parametrize(
    "url", ["mysql://host/hilum", "sqlite://", "hilum.sqlite3", "postgresql://host:port/hilum", ""]
)
def test_a_url_of_no_known_database_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match=r"database\.url"):
        open_database(url, STORAGE)


def test_a_postgres_that_does_not_answer_is_a_passing_failure_with_its_cause_but_not_its_password() -> None:
    with pytest.raises(PassingFailure) as raised:
        open_database(f"postgresql://hilum:s3cret@127.0.0.1:{free_port()}/hilum", STORAGE)
    assert "Connection refused" in raised.value.message
    assert "s3cret" not in raised.value.message


def test_a_folder_that_cannot_be_made_is_a_passing_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PassingFailure, match="record"):
        open_database(f"sqlite:///{tmp_path}/file/record.sqlite3", STORAGE)


def test_a_file_that_is_no_database_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "record.sqlite3").write_text("something else" * 100)
    with pytest.raises(SettingsError, match="not a database"):
        open_database(f"sqlite:///{tmp_path}/record.sqlite3", STORAGE)


def test_commits_write_over_the_log_once_it_has_its_length(sqlite_url: str) -> None:
    engine = open_database(sqlite_url, STORAGE)
    lengthen_log(engine)
    log = Path(f"{engine.url.database}-wal")
    length = log.stat().st_size
    assert length >= LOG_BYTES
    before = log.read_bytes()[:100_000]
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE anything (x INTEGER)"))
    assert log.stat().st_size == length
    assert log.read_bytes()[:100_000] != before


def test_lengthening_the_log_leaves_the_schema_as_it_was(sqlite_url: str) -> None:
    engine = open_database(sqlite_url, STORAGE)
    before = inspect(engine).get_table_names()
    lengthen_log(engine)
    assert inspect(engine).get_table_names() == before


def test_lengthening_the_log_takes_no_room_in_the_record_itself(sqlite_url: str) -> None:
    engine = open_database(sqlite_url, STORAGE)
    lengthen_log(engine)
    with engine.connect() as connection:
        pages, page_bytes = (
            connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("page_count", "page_size")
        )
    assert pages * page_bytes < LOG_BYTES / 4


def test_a_record_of_another_user_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `hilum check` had made it as root; the test may run as root, who may read everything."""
    file = tmp_path / "record.sqlite3"
    open_database(f"sqlite:///{file}", STORAGE).dispose()
    owner = file.owner()
    monkeypatch.setattr("dicom_node.record.database.os.access", lambda *_: False)
    with pytest.raises(PassingFailure, match=f"{file} cannot be read and written by this user; it belongs to {owner}"):
        open_database(f"sqlite:///{file}", STORAGE)
