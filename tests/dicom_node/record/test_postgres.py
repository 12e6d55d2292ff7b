"""A PostgreSQL that vanishes or hangs is given up, not waited for, and so is a lock of another host that does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from dicom_node.receive.turn import is_silence
from dicom_node.record import postgres
from dicom_node.record.database import current_revision, make_engine, open_database
from tests.dicom_node.recording import STORAGE
from tests.services import wait_until


@pytest.fixture
def engine(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An empty database that is given up after a second, and a lock in it after less."""
    monkeypatch.setattr(postgres, "LONGEST_ANSWER_SECONDS", 1.0)
    monkeypatch.setitem(postgres.LIMITS, "lock_timeout", "200ms")
    monkeypatch.setitem(postgres.LIMITS, "idle_in_transaction_session_timeout", "5s")
    engine = make_engine(postgres_url, must_exist=False)
    yield engine
    engine.dispose()


@contextmanager
def hanging(connection: Connection) -> Iterator[None]:
    """Stop the server's process for a connection, as a disk that hangs would."""
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.node
def test_a_statement_that_is_not_answered_fails_and_another_connection_serves_the_next(engine: Engine) -> None:
    with engine.connect() as connection, hanging(connection):
        began = time.monotonic()
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT 1"))
        assert time.monotonic() - began < 10
        assert connection.invalidated
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 2")) == 2


@pytest.mark.node
def test_a_commit_that_is_not_answered_fails(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE written (number INTEGER)"))
        with hanging(connection), pytest.raises(OperationalError):
            connection.commit()


@pytest.mark.node
def test_an_error_of_a_statement_leaves_the_connection_as_it_is(engine: Engine) -> None:
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.execute(text("SET statement_timeout = 10"))
        connection.commit()
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(5)"))
        connection.rollback()
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid


@pytest.mark.node
def test_a_migration_may_take_longer(engine: Engine, postgres_url: str) -> None:
    with engine.connect() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(4854)"))  # as another process that migrates
        Timer(2.5, other.rollback).start()
        migrated = open_database(postgres_url, STORAGE)
    assert current_revision(migrated) is not None
    with migrated.connect() as connection, pytest.raises(OperationalError):
        connection.execute(text("SELECT pg_sleep(5)"))
    migrated.dispose()


@pytest.mark.node
def test_a_lock_of_a_host_that_vanished_is_not_waited_for_and_soon_released(engine: Engine) -> None:
    vanished = engine.connect()
    vanished.execute(text("SELECT pg_advisory_xact_lock(1)"))
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="lock timeout") as failed:
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        assert not is_silence(failed.value)
        connection.rollback()
        wait_until(lambda: connection.scalar(text("SELECT pg_try_advisory_xact_lock(1)")), "the lock is released")
    vanished.invalidate()
    vanished.close()


@pytest.mark.node
def test_the_server_gives_up_a_lock_before_the_node_gives_up_the_server(postgres_url: str) -> None:
    engine = make_engine(postgres_url, must_exist=False)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT name, setting FROM pg_settings WHERE unit = 'ms'"))
        milliseconds = {name: int(setting) for name, setting in found}
    engine.dispose()
    assert 0 < milliseconds["lock_timeout"] < 1000 * postgres.LONGEST_ANSWER_SECONDS
    assert 0 < milliseconds["idle_in_transaction_session_timeout"] <= 30_000


def asked_of_the_driver(url: str) -> dict[str, Any]:
    """Return the options with which an engine would connect."""
    asked: dict[str, Any] = {}
    engine = make_engine(url, must_exist=False)

    def note(**options: Any) -> None:
        asked.update(options)
        raise ConnectionAbortedError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(postgres.ImpatientConnection, "connect", note)
        with pytest.raises(ConnectionAbortedError):
            engine.connect()
    return asked


def test_a_postgres_that_vanishes_is_given_up_within_half_a_minute() -> None:
    asked = asked_of_the_driver("postgresql://hilum@database/hilum")
    seconds = {name: int(asked[name]) for name in ("connect_timeout", "keepalives_idle", "keepalives_interval")}
    assert seconds["connect_timeout"] <= 30
    assert seconds["keepalives_idle"] + int(asked["keepalives_count"]) * seconds["keepalives_interval"] <= 30
    assert int(asked["tcp_user_timeout"]) <= 30_000


def test_the_url_of_a_postgres_may_say_how_soon_it_is_given_up() -> None:
    asked = asked_of_the_driver("postgresql://hilum@database/hilum?connect_timeout=60&sslmode=require")
    assert (asked["connect_timeout"], asked["sslmode"]) == ("60", "require")
    assert int(asked["keepalives_idle"]) <= 30
