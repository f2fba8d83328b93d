"""Connections of the reverse sink."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from pycdc.postgres import client
from pycdc.sinks.postgres.faults import translate

Connection = psycopg.Connection[Any]

_SETTINGS: Final = {
    # Texts without a zone are UTC, as events write them.
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    # Whoever waits longer than this for a row tries the transaction again.
    "lock_timeout": "20s",
    # A process that is frozen in the middle of a transaction must not lock out the one that takes its partitions over.
    "idle_in_transaction_session_timeout": "15s",
}
"""search_path stays: the tables' triggers may rely on it."""


def connect(dsn: str, statement_seconds: float = 0, *, stopping: threading.Event | None = None) -> Connection:
    """Open a connection whose transactions are begun by their first statement. Raises PycdcError.

    A statement may take `statement_seconds`, 0: as long as it likes; and not much longer once `stopping` is set.
    """
    try:
        connection: Connection = client.connect(
            dsn, "sink.postgres.dsn", defaults={"fallback_application_name": "pycdc-apply"}, stopping=stopping
        )
        for name, value in {**_SETTINGS, "statement_timeout": f"{statement_seconds * 1000:.0f}"}.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.commit()
    except psycopg.Error as error:
        raise translate(error) from None
    return connection


@contextmanager
def connected(dsn: str) -> Iterator[Connection]:
    """A connection for a few questions; what the server refuses is raised as PycdcError."""
    connection = connect(dsn)
    try:
        yield connection
    except psycopg.Error as error:
        raise translate(error) from None
    finally:
        connection.close()
