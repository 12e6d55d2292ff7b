"""Connections to PostgreSQL that give up on a server that does not answer, whether it vanished or hangs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event
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

    return engine


@contextmanager
def patient(connection: Connection, seconds: float) -> Iterator[None]:
    """Allow statements more time, for example to migrate a large table or to wait for another process that does."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, ImpatientConnection):  # SQLite
        yield
        return
    driver.longest_seconds = seconds
    try:
        yield
    finally:
        driver.longest_seconds = None
