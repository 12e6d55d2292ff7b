"""Open the record: SQLite on one host, PostgreSQL if several hosts share it."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event, inspect, or_, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.schema import Table

from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.files import PRIVATE_FILE, make_folder
from dicom_node.log import get_logger
from dicom_node.record.paths import set_storage, storage_of
from dicom_node.record.postgres import make_postgres_engine, patient

MIGRATIONS = Path(__file__).with_name("migrations")
LOG_BYTES = 4 * 2**20
"""The length of SQLite's write-ahead log: SQLite writes it from the start again after 1000 pages of 4 KB."""
LATEST_REVISION = "0009"
MIGRATION_SECONDS = 3600.0
"""How long a statement of a migration may take, which may rewrite a table of millions of rows."""
URL_EXPECTED = "expected a database.url that starts with sqlite:/// or postgresql://"

log = get_logger()


def open_database(url: str, storage: Path, *, must_exist: bool = False) -> Engine:
    """Return an engine for the record, migrated to the latest revision.

    SQLite runs in WAL mode with synchronous=FULL, so that a commit is on the disk before it returns.

    Parameters
    ----------
    storage : Path
        The folder to which the record's paths of files are relative.
    must_exist : bool
        Raise an error if there is no record. A command that only shows the record must not make a new, empty one.

    Raises
    ------
    SettingsError
        The URL is of neither SQLite nor PostgreSQL, the record does not exist but must, or this Hilum cannot use it.
    PassingFailure
        The database does not answer, or SQLite's file or its folder cannot be made, or belongs to another user.
    """
    engine = make_engine(url, must_exist=must_exist)
    set_storage(engine, storage)
    try:
        if must_exist and current_revision(engine) is None:
            raise no_record(engine.url)
        migrate(engine)
    except OperationalError as error:
        cause, *_ = str(error.orig).splitlines() or [type(error.orig).__name__]
        raise PassingFailure(
            "database-unreachable", f"the record does not answer; check database.url and the server: {cause}"
        ) from error
    except DatabaseError as error:
        raise SettingsError(
            "database-unusable", f"the record cannot be used; check database.url: {error.orig}"
        ) from error
    return engine


def no_record(url: URL) -> SettingsError:
    """Return the error for a missing record; its message does not contain the password of the URL."""
    is_file = url.get_backend_name() == "sqlite"
    where = Path(url.database or "").absolute() if is_file else f"{url.host or 'this machine'}/{url.database}"
    advice = "name the node's settings with --config FILE or HILUM_CONFIG, or go to the folder that it is started in"
    return SettingsError("no-record", f"there is no record at {where}; {advice}")


def make_engine(url: str, *, must_exist: bool) -> Engine:
    """Return an engine for a database, which need not answer yet."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The cause would quote the URL and the password in it.
        raise SettingsError("database-url", URL_EXPECTED) from None
    if parsed.get_backend_name() == "postgresql":
        return make_postgres_engine(parsed)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise SettingsError("database-url", URL_EXPECTED)
    file = Path(parsed.database)
    try:
        if must_exist and not file.exists():
            raise no_record(parsed)
        make_folder(file.parent.absolute())
        if not file.exists():
            file.touch(PRIVATE_FILE)  # SQLite gives its write-ahead log the same mode
    except OSError as error:
        message = f"{file} cannot be made or written for the record: {error.strerror}"
        raise PassingFailure("database-folder", message) from error
    if not os.access(file, os.R_OK | os.W_OK):
        message = f"{file} cannot be read and written by this user; it belongs to {owner_of(file)}"
        raise PassingFailure("database-file", message)
    engine = create_engine(parsed, pool_size=8, max_overflow=64)
    make_durable(engine)
    return engine


def owner_of(file: Path) -> str:
    """Return the name of the user to whom a file belongs, or the number if there is no such user."""
    try:
        return file.owner()
    except KeyError:
        return f"user {file.stat().st_uid}"


def make_durable(engine: Engine) -> None:
    """Set SQLite's pragmas; begin each transaction that may write as a writer, so that none has to become one later."""

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver then sends no BEGIN
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def lengthen_log(engine: Engine) -> None:
    """Extend SQLite's write-ahead log to its full length in advance; it stays so while any process has the record open.

    A commit that extends the log also waits for the file system's journal; a commit that overwrites existing space
    took less than half the time on ext4. While other processes keep all processors busy, waiting for one hides the
    gain. The log reaches this length by itself after some 300 instances, so the first 300 after a start gain.
    """
    if engine.dialect.name != "sqlite":
        return
    connection = engine.raw_connection()
    cursor = connection.cursor()
    (cache_size,) = cursor.execute("PRAGMA cache_size").fetchone()
    try:
        for statement in (
            "PRAGMA cache_size=1",  # pages beyond the cache go to the log at once; its length stays
            "BEGIN IMMEDIATE",
            "CREATE TABLE filler (bytes BLOB)",
            f"INSERT INTO filler VALUES (zeroblob({LOG_BYTES}))",  # noqa: S608 - a constant
            "ROLLBACK",
            "PRAGMA wal_checkpoint(RESTART)",
        ):
            cursor.execute(statement)
    except sqlite3.Error as error:  # the disk is full: the node must start anyway, to tell senders so
        log.warning("log_not_lengthened", error=type(error).__name__)
    finally:
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")
        cursor.execute(f"PRAGMA cache_size={cache_size}")
        connection.close()


def reading(engine: Engine) -> Connection:
    """Return a connection for reading: it sees one snapshot and blocks no writer. Use it in a ``with``."""
    connection = engine.connect().execution_options(read_only=True)
    if engine.dialect.name == "postgresql":  # by default each statement sees a snapshot of its own
        connection = connection.execution_options(isolation_level="REPEATABLE READ")
    return connection


def migrate(engine: Engine) -> None:
    """Migrate the tables to the latest revision; several processes may do so at once."""
    if current_revision(engine) == LATEST_REVISION:
        return
    # Imported here: Alembic is some 15 MB that a running node does not need.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection, patient(connection, MIGRATION_SECONDS):
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(4854)"))
        config.attributes["connection"] = connection
        config.attributes["storage"] = storage_of(engine)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsError(
                "record-newer",
                f"expected a record up to revision {LATEST_REVISION}, got another Hilum's ({error}); use that Hilum",
            ) from error


def current_revision(engine: Engine) -> str | None:
    """Return the record's revision, or None if it has no tables yet."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def insert_if_absent(engine: Engine, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that does nothing if the row exists."""
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()


def now() -> float:
    """Return the seconds since the epoch by this host's clock, as all hosts write them into the record."""
    return time.time()


def has_come(
    moment: ColumnElement[float], time: float, longest_seconds: float | ColumnElement[float]
) -> ColumnElement[bool]:
    """Return the condition that a moment in the record has come.

    A moment more than ``longest_seconds`` ahead counts too: none is ever set so far ahead, so it was written before
    the clock was set back.
    """
    return or_(moment <= time, moment - longest_seconds > time)
