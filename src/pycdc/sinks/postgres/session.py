"""Connections of the reverse sink, and what the server's errors mean to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

import psycopg
from psycopg import conninfo

from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady, PycdcError

Connection = psycopg.Connection[Any]

OLDEST_VERSION: Final = 140_000
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
_DEFAULTS: Final = {
    "fallback_application_name": "pycdc-apply",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def connect(dsn: str, statement_seconds: float = 0) -> Connection:
    """Open a connection whose transactions are begun by their first statement. Raises PycdcError.

    A statement may take `statement_seconds`, 0: as long as it likes.
    """
    try:
        parameters: dict[str, Any] = {**_DEFAULTS, **conninfo.conninfo_to_dict(dsn)}
    except psycopg.ProgrammingError:
        # libpq's message quotes the DSN, and with it the password.
        raise ConfigError(
            "sink.postgres.dsn is not a connection string that libpq understands",
            hint="write `host=… dbname=… user=…` or `postgresql://user@host/database`, special characters %-encoded",
        ) from None
    parameters["client_encoding"] = "UTF8"
    try:
        connection: Connection = psycopg.connect(**parameters)
        for name, value in {**_SETTINGS, "statement_timeout": f"{statement_seconds * 1000:.0f}"}.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.commit()
    except psycopg.Error as error:
        raise translate(error) from None
    if connection.info.server_version < OLDEST_VERSION:
        connection.close()
        raise EnvironmentNotReady(
            f"the server is Postgres {connection.info.server_version // 10_000}, and 14 is the oldest that will do",
            hint="upgrade the server",
        )
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


class Fault(Enum):
    """AGAIN: the same transaction may succeed at once. ROW: some row of it never will. SLOW: a smaller one may.

    OTHER: none of these.
    """

    AGAIN = "again"
    ROW = "row"
    SLOW = "slow"
    OTHER = "other"


_AGAIN: Final = ("40001", "40P01", "55P03")
_SLOW: Final = "57014"
_ROW: Final = ("21", "22", "23", "44", "P0")
"""Classes: cardinality, data, integrity, WITH CHECK OPTION, and what a trigger raises."""


def fault(error: psycopg.Error) -> Fault:
    state = error.sqlstate or ""
    if state in _AGAIN:
        return Fault.AGAIN
    if state == _SLOW:
        return Fault.SLOW
    return Fault.ROW if state[:2] in _ROW else Fault.OTHER


def translate(error: psycopg.Error) -> PycdcError:
    """The pycdc error for what is no row's fault."""
    state = error.sqlstate
    if state is None:
        refused = "authentication failed" in str(error) or "does not exist" in str(error)
        kind = EnvironmentNotReady if refused else ConnectionLost
        return kind(f"the database of sink.postgres is out of reach: {_first_line(error)}", hint=_CHECK_DSN)
    if state[:2] in ("08", "53", "55", "57") or state in ("25006", "40001", "40P01", "25P03"):
        return ConnectionLost(f"the database of sink.postgres: {_first_line(error)} (SQLSTATE {state})")
    if state == "42501":
        return EnvironmentNotReady(
            f"{_first_line(error)} (SQLSTATE 42501)",
            hint="GRANT SELECT, INSERT, UPDATE, DELETE on the table to the role of sink.postgres.dsn",
        )
    return EnvironmentNotReady(
        f"the database refuses a statement: {described(error)}",
        hint="`pycdc doctor` compares the routes with the tables",
    )


_CHECK_DSN: Final = "check sink.postgres.dsn, and that the server runs"


def described(error: psycopg.Error) -> str:
    """What the server objects to, by names and codes only: its words may hold values of rows."""
    diag = error.diag
    names = {"table": diag.table_name, "column": diag.column_name, "constraint": diag.constraint_name}
    told = ", ".join(f"{what} {name}" for what, name in names.items() if name)
    kind = type(error).__name__
    return f"{kind} (SQLSTATE {error.sqlstate}){': ' + told if told else ''}"


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().partition("\n")[0]
