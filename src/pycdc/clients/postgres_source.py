"""Connections to the source: one set of session settings.

Every connection, replication or not, pins what the text of a value depends on, so that the stream and the snapshot
write the same bytes. SET after connecting outranks the DSN's `options`, libpq's PG* environment and ALTER ROLE … SET.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

import psycopg

from pycdc.clients import postgres as client
from pycdc.clients import postgres_errors as faults
from pycdc.clients import search_path
from pycdc.clients.postgres_errors import ErrorMeaning
from pycdc.errors import ConnectionLost, PycdcError

__all__ = ["Connection", "ErrorMeaning", "TableLocked", "connect", "leave_text_raw", "translate"]

Connection = psycopg.Connection[Any]

_SETTINGS: Final = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    # What is committed here (marks, signals, publications) is looked at again: no standby that is away may hold it up.
    # It is flushed, because only then it is sent.
    "synchronous_commit": "local",
}
_LOCK_MS: Final = 500
"""That a statement waits for a lock, at most: whoever waits may keep others waiting, and Postgres looks for deadlocks
after a second, and may then end somebody else's transaction."""
STATEMENT_SECONDS: Final = 60.0
READING_SECONDS: Final = 3600.0
"""Of statements that read a table's rows."""
_MARGIN: Final = 5.0
"""Seconds that the server has to say that a statement took too long; then it counts as silent."""
_REMEDY: Final = "check that the server of source.postgres.dsn runs and can be reached"
_OF_STATEMENTS: Final = ("statement_timeout", "lock_timeout", "idle_session_timeout")
"""A session that reads a slot, or makes one, is no matter of these: it waits for open transactions, and has its own."""


class TableLocked(ConnectionLost):
    """Somebody has a lock, or waits for one, that a statement needs; or asked for one that ours held too long."""


_HELD_UP: Final = {
    "55P03": ErrorMeaning(TableLocked, "wait until the transaction that has the lock has ended"),
    "57014": ErrorMeaning(TableLocked, "a statement_timeout of the server or the role may be too short"),
}


def translate(
    error: psycopg.Error, special: Mapping[str, ErrorMeaning] | None = None, *, where: str = ""
) -> PycdcError:
    """See `faults.translate`."""
    return faults.translate(error, {**_HELD_UP, **(special or {})}, where=where, remedy=_REMEDY)


def connect(
    dsn: str,
    *,
    replication: bool = False,
    seconds: float = STATEMENT_SECONDS,
    stopping: threading.Event | None = None,
) -> Connection:
    """Open a connection in autocommit, whose statements take no longer than `seconds`, not long once `stopping` is set,
    and wait for locks for a moment only. Shorter limits of the server, the role or the DSN stay. `seconds` of 0: as
    long as it takes. Raises ConfigError, EnvironmentNotReady or ConnectionLost.
    """
    try:
        connection: Connection = client.connect(
            dsn,
            "the source's dsn",
            seconds=seconds + _MARGIN if seconds else 0.0,
            stopping=stopping,
            defaults={"fallback_application_name": "pycdc", **({"replication": "database"} if replication else {})},
            autocommit=True,
            prepare_threshold=None,
        )
    except psycopg.Error as error:
        # What libpq says of connecting tells host and port, and not whose server it is.
        raise translate(error, where="" if error.sqlstate else "the source database") from None
    try:
        _pin(connection, _limits(replication, seconds))
    except psycopg.Error as error:
        connection.close()
        raise translate(error) from None
    return connection


def _limits(replication: bool, seconds: float) -> list[str]:
    """Calls of SQL. A limit of 0 is none."""
    if replication:
        return [f"pg_catalog.set_config('{name}', '0', false)" for name in _OF_STATEMENTS]
    limits = {"lock_timeout": _LOCK_MS, "statement_timeout": int(seconds * 1000)}
    theirs = "nullif(extract(epoch FROM pg_catalog.current_setting('{name}')::interval) * 1000, 0)"
    return [
        f"pg_catalog.set_config('{name}', least({theirs.format(name=name)}, {limit})::int8::text, false)"
        for name, limit in limits.items()
    ]


def _pin(connection: Connection, limits: list[str]) -> None:
    # First and alone: what the other settings are computed with is looked up along the path.
    search_path.pin(connection)
    calls = [f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items()]
    connection.execute(f"SELECT {', '.join(calls + limits)}".encode())


def in_recovery(dsn: str) -> bool:
    """Whether the server is a standby."""
    with connect(dsn) as connection:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    return row is not None and bool(row[0])


def leave_text_raw(connection: Connection) -> None:
    """Receive the texts of a database in SQL_ASCII as they are, where Postgres would refuse what is not UTF-8.

    psycopg then returns text as bytes: for connections that go on to read rows only.
    """
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.execute("SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false)")
