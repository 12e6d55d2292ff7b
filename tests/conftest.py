"""Fixtures for every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from dicom_node.embedded import find_redis
from dicom_node.record.database import open_database
from tests.services import (
    Orthanc,
    PostgresServer,
    RedisServer,
    free_port,
    orthanc_server,
    postgres_server,
)

REPOSITORY = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("hilum", deadline=None)  # examples may take any time
hypothesis.settings.load_profile("hilum")

METHOD = "HILUM_WORKER__METHOD"
os.environ[METHOD] = "thresholds"
"""The method for all tests that choose none: networks were never trained on chests as tiny as the tests'."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans beside the project; a test that needs it is skipped, with a message, if it is absent."""
    folder = Path(os.environ.get("HILUM_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder}; set HILUM_TEST_DATA")
    return folder


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own settings out of the tests."""
    for name in os.environ:
        if name.upper().startswith("HILUM_") and not name.upper().startswith("HILUM_TEST_") and name != METHOD:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logs_unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep commands that run in this process from binding every logger to this test's standard error."""
    monkeypatch.setattr("structlog.configure", lambda **_: None)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for this test alone."""
    server = RedisServer(find_redis(), free_port(), tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests; each test has its own database."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc for all tests; each test sends its own studies."""
    with orthanc_server(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("record") / "record.sqlite3"
    open_database(f"sqlite:///{path}", path.parent).dispose()
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(postgres: PostgresServer) -> str:
    postgres.execute("CREATE DATABASE migrated")
    open_database(postgres.url("migrated"), Path("/storage")).dispose()
    return "migrated"


@pytest.fixture
def sqlite_url(tmp_path: Path, _migrated_sqlite: Path) -> str:
    """A migrated record in SQLite."""
    return f"sqlite:///{shutil.copy(_migrated_sqlite, tmp_path / 'record.sqlite3')}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.node)])
def record_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated record, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        yield str(request.getfixturevalue("sqlite_url"))
        return
    template = request.getfixturevalue("_migrated_postgres")
    postgres: PostgresServer = request.getfixturevalue("postgres")
    with postgres.database(template) as url:
        yield url
