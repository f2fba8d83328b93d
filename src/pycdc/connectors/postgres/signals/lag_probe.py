"""Logical messages that measure: transactions of their own that touch no table."""

from __future__ import annotations

import time
from typing import Final

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source

PREFIX: Final = "pycdc.operations.lag"
"""Of the messages."""
_EMIT: Final = "SELECT pg_logical_emit_message(true, %s::text, %s::text)"


class Prober:
    """One connection that commits a message when told to. Any role may."""

    def __init__(self, dsn: str) -> None:
        self._connection: Connection = connect_to_source(dsn)

    def emit(self, content: str) -> float:
        """Commit a message; the monotonic time at which the server said that it is committed. Raises PycdcError."""
        try:
            self._connection.execute(_EMIT, (PREFIX, content))
        except psycopg.Error as error:
            raise source_error(error) from None
        return time.monotonic()

    def close(self) -> None:
        self._connection.close()


def clock_ahead(dsn: str) -> float:
    """Seconds by which the server's clock is ahead of ours, to within half a round trip. Raises PycdcError."""
    connection = connect_to_source(dsn)
    try:
        connection.execute("SELECT 1")  # so that the question below meets a session that is warm
        before = time.time()
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        after = time.time()
    except psycopg.Error as error:
        raise source_error(error) from None
    finally:
        connection.close()
    return float(row[0]) - (before + after) / 2 if row else 0.0
