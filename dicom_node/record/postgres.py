"""Connections to PostgreSQL that give up on a server that vanished or hangs, and on locks of a host that did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL

LONGEST_ANSWER_SECONDS = 15.0
"""How long a statement may take; Hilum's take milliseconds. With the attempt to connect anew, senders learn within half
a minute that the server hangs: many PACS wait no longer."""
GIVING_UP = {
    "connect_timeout": "10",
    "tcp_user_timeout": "20000",  # milliseconds
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""Connection parameters with which a server that vanishes, as in a power cut, is given up after half a minute; TCP
alone would wait a quarter of an hour. Parameters in the query of the URL take precedence."""
LIMITS = {"lock_timeout": "5s", "idle_in_transaction_session_timeout": "20s"}
"""Limits that the server applies, because a host that vanishes or is frozen amid a transaction leaves locks there: the
server would keep them for hours or forever. Who waits for such a lock must hear of it from the server, before
``LONGEST_ANSWER_SECONDS`` are over: else the server itself would seem to hang, and other studies would be refused."""

Answer = TypeVar("Answer")


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection that is closed if the server does not answer in time, for example because its disk hangs.

    TCP cannot tell: the server's system still acknowledges what it receives.
    """

    longest_seconds: float | None = None
    """The limit for this connection; None stands for ``LONGEST_ANSWER_SECONDS``."""

    def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:
        """Wait for the server's answer, as psycopg does, but not forever.

        Raises
        ------
        psycopg.OperationalError
            The server did not answer in time, or the connection is lost.
        """
        try:
            return super().wait(gen, interval, timeout or self.longest_seconds or LONGEST_ANSWER_SECONDS)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # else a late answer would be taken for that to the next statement
            raise


def make_postgres_engine(url: URL) -> Engine:
    """Return an engine for a PostgreSQL, which need not answer yet."""
    url = url.set(drivername="postgresql+psycopg", query=GIVING_UP | dict(url.query))
    engine = create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=64)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
        return ImpatientConnection.connect(*arguments, **options)

    @event.listens_for(engine, "connect")
    def set_limits(connection: ImpatientConnection, _record: object) -> None:
        # Not by the connection parameter `options`: PgBouncer refuses it, and it would replace the user's PGOPTIONS.
        for name, value in LIMITS.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.commit()

    return engine


@contextmanager
def patient(connection: Connection, seconds: float) -> Iterator[None]:
    """Allow a transaction's statements more time, for example to migrate a large table or to wait for whoever does."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, ImpatientConnection):  # SQLite
        yield
        return
    driver.longest_seconds = seconds
    try:
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        yield
    finally:
        driver.longest_seconds = None
