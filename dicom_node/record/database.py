"""Opening the record: SQLite on one host, PostgreSQL where hosts share it."""

from __future__ import annotations

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

MIGRATIONS = Path(__file__).with_name("migrations")
LOG_BYTES = 4 * 2**20
"""SQLite begins its log anew after 1000 pages of 4 KB."""
LATEST_REVISION = "0008"
GIVING_UP = {
    "connect_timeout": "10",
    "tcp_user_timeout": "20000",  # milliseconds
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""A PostgreSQL that vanishes without a word, as in a power cut, is given up in half a minute; TCP waits a quarter of
an hour. What the URL's query says goes before."""
URL_EXPECTED = "expected a database.url that starts with sqlite:/// or postgresql://"

log = get_logger()


def open_database(url: str, *, must_exist: bool = False) -> Engine:
    """Return an engine on the record, migrated to the latest revision.

    SQLite runs in WAL mode with synchronous=FULL, so that a commit is on the disk before it returns.

    Parameters
    ----------
    must_exist : bool
        Make no record where there is none: who looks into one would take the new one for it.

    Raises
    ------
    SettingsError
        The URL is neither SQLite's nor PostgreSQL's, or what it names is no record of this Hilum.
    PassingFailure
        The database does not answer.
    """
    engine = make_engine(url, must_exist=must_exist)
    try:
        if must_exist and current_revision(engine) is None:
            raise no_record(engine.url)
        migrate(engine)
    except OperationalError as error:
        raise PassingFailure(
            "database-unreachable",
            f"the record does not answer; check database.url and the server ({type(error.orig).__name__})",
        ) from error
    except DatabaseError as error:
        raise SettingsError(
            "database-unusable", f"the record cannot be used; check database.url: {error.orig}"
        ) from error
    return engine


def no_record(url: URL) -> SettingsError:
    """Return what to say where a record was looked for and is none; a URL's password is not told."""
    is_file = url.get_backend_name() == "sqlite"
    where = Path(url.database or "").absolute() if is_file else f"{url.host or 'this machine'}/{url.database}"
    advice = "name the node's settings with --config FILE or HILUM_CONFIG, or go to the folder that it is started in"
    return SettingsError("no-record", f"there is no record at {where}; {advice}")


def make_engine(url: str, *, must_exist: bool) -> Engine:
    """Return an engine for a database, which need not answer yet."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without its cause, which quotes the URL and the password in it.
        raise SettingsError("database-url", URL_EXPECTED) from None
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg", query=GIVING_UP | dict(parsed.query))
        return create_engine(parsed, pool_pre_ping=True, pool_size=8, max_overflow=64)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise SettingsError("database-url", URL_EXPECTED)
    file = Path(parsed.database)
    try:
        if must_exist and not file.exists():
            raise no_record(parsed)
        make_folder(file.parent.absolute())
        if not file.exists():
            file.touch(PRIVATE_FILE)  # its log gets the same mode
    except OSError as error:
        message = f"{file} cannot be made or written for the record: {error.strerror}"
        raise PassingFailure("database-folder", message) from error
    engine = create_engine(parsed, pool_size=8, max_overflow=64)
    make_durable(engine)
    return engine


def make_durable(engine: Engine) -> None:
    """Set SQLite's pragmas, and let transactions that write begin as writers, so that none has to be upgraded."""

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver leaves BEGIN to us
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def lengthen_log(engine: Engine) -> None:
    """Let SQLite's log take the room it will need, for as long as somebody has the record open.

    A commit that makes the log longer waits for the file system's journal as well; one that writes over what is
    there took less than half the time on ext4. Where others hold the processors, waiting for them hides the gain.
    The log comes to its length by itself with some 300 instances, so it is they, after a start, that gain.
    """
    if engine.dialect.name != "sqlite":
        return
    connection = engine.raw_connection()
    cursor = connection.cursor()
    (cache_size,) = cursor.execute("PRAGMA cache_size").fetchone()
    try:
        for statement in (
            "PRAGMA cache_size=1",  # what does not fit goes to the log at once, and stays there as room
            "BEGIN IMMEDIATE",
            "CREATE TABLE filler (bytes BLOB)",
            f"INSERT INTO filler VALUES (zeroblob({LOG_BYTES}))",  # noqa: S608 - our own number
            "ROLLBACK",
            "PRAGMA wal_checkpoint(RESTART)",
        ):
            cursor.execute(statement)
    except sqlite3.Error as error:  # the disk is full: the node has to start all the same, and to say so to senders
        log.warning("log_not_lengthened", error=type(error).__name__)
    finally:
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")
        cursor.execute(f"PRAGMA cache_size={cache_size}")
        connection.close()


def reading(engine: Engine) -> Connection:
    """Return a connection for reading: a snapshot that holds up no writer. Use it in a ``with``."""
    connection = engine.connect().execution_options(read_only=True)
    if engine.dialect.name == "postgresql":  # by default each of its statements sees another moment
        connection = connection.execution_options(isolation_level="REPEATABLE READ")
    return connection


def migrate(engine: Engine) -> None:
    """Bring the tables to the latest revision; several processes may try at once."""
    if current_revision(engine) == LATEST_REVISION:
        return
    # Imported here: Alembic is some 15 MB that a running node does not need.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(4854)"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsError(
                "record-newer",
                f"expected a record up to revision {LATEST_REVISION}, got another Hilum's ({error}); use that Hilum",
            ) from error


def current_revision(engine: Engine) -> str | None:
    """Return the record's revision, or None where it has no tables yet."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def insert_if_absent(engine: Engine, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that leaves an existing row as it is."""
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()


def now() -> float:
    """Seconds since the epoch: the record's clock, shared by all hosts."""
    return time.time()


def has_come(
    moment: ColumnElement[float], time: float, longest_seconds: float | ColumnElement[float]
) -> ColumnElement[bool]:
    """Whether a moment in the record has come.

    One that lies further off than it was ever set was written before the clock was set back; it has come too.
    """
    return or_(moment <= time, moment - longest_seconds > time)
