"""Connections of the reverse sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from pycdc.clients import postgres as client
from pycdc.clients import search_path
from pycdc.clients.target_errors import translate
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.observability.outages import Outages

Connection = psycopg.Connection[Any]

_SETTINGS: Final = {
    # Texts without a zone are UTC, as events write them.
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "standard_conforming_strings": "on",
    # Money as events write it: with a point, whatever the server's locale.
    "lc_monetary": "C",
    # Whoever waits longer than this for a row tries the transaction again.
    "lock_timeout": "20s",
    # A process that is frozen in the middle of a transaction must not lock out the one that takes its partitions over.
    "idle_in_transaction_session_timeout": "15s",
}

_COMMIT_SECONDS: Final = 30.0
"""That a COMMIT may take beyond what a statement may: triggers that were put off run in it."""
_GRACE: Final = 5.0
"""Seconds that a server has to say that a statement took too long, before it counts as away."""

_MAY_IDENTIFY: Final = "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
_IDENTITY: Final = """SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()) || '/' || oid
FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"""


def connect(dsn: str, statement_seconds: float = 0, *, stopping: threading.Event | None = None) -> Connection:
    """Open a connection whose transactions are begun by their first statement. Raises PycdcError.

    A statement may take `statement_seconds`, 0: as long as it likes; and not much longer once `stopping` is set. It
    finds what the catalog has, and no more.
    """
    return _connect(dsn, statement_seconds, stopping, lambda connection: search_path.pin(connection))


def connect_to_write(
    settings: PostgresSinkConfig,
    statement_seconds: float = 0,
    *,
    stopping: threading.Event | None = None,
    outages: Outages | None = None,
) -> Connection:
    """As `connect`, for statements that run the tables' triggers: with the schemas that those need. `outages` tells of
    those that take long.

    Raises EnvironmentNotReady where a stranger may write one of them.
    """

    def pin(connection: Connection) -> None:
        path = _path(connection, settings)
        search_path.refuse(path.problems)
        search_path.pin(connection, path.schemas)

    dsn = settings.dsn.get_secret_value()
    connection = _connect(dsn, statement_seconds, stopping, pin)
    connection.outages, connection.name = outages, f"the database of sink.postgres{client.place(dsn)}"
    return connection


def path_problems(settings: PostgresSinkConfig) -> list[search_path.PathProblem]:
    """Why `connect_to_write` would refuse. Raises PycdcError."""
    found: list[search_path.PathProblem] = []
    _connect(
        settings.dsn.get_secret_value(), 0, None, lambda connection: found.extend(_path(connection, settings).problems)
    ).close()
    return found


class _Path(NamedTuple):
    schemas: list[str]
    problems: list[search_path.PathProblem]


def _path(connection: Connection, settings: PostgresSinkConfig) -> _Path:
    chosen = settings.search_path
    schemas = search_path.schemas_of_role(connection) if chosen is None else chosen
    search_path.pin(connection)
    return _Path(schemas, search_path.problems(connection, schemas, [quoted(route.table) for route in settings.routes]))


def quoted(table: str) -> str:
    """A table's name as a configuration has it, which is in `public` where it names no schema."""
    schema, dot, name = table.partition(".")
    return sql.Identifier(*((schema, name) if dot else ("public", schema))).as_string(None)


def _connect(
    dsn: str, statement_seconds: float, stopping: threading.Event | None, pin: Callable[[Connection], None]
) -> client.Client:
    try:
        connection = client.connect(
            dsn,
            "sink.postgres.dsn",
            seconds=statement_seconds + _GRACE if statement_seconds else 0.0,
            stopping=stopping,
            defaults={"fallback_application_name": "pycdc-apply"},
        )
        connection.commit_seconds = _COMMIT_SECONDS + statement_seconds
    except psycopg.Error as error:
        raise translate(error) from None
    try:
        pin(connection)
        for name, value in {**_SETTINGS, "statement_timeout": f"{statement_seconds * 1000:.0f}"}.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
        connection.commit()
    except psycopg.Error as error:
        connection.close()
        raise translate(error) from None
    except BaseException:
        connection.close()
        raise
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


def database_identity(connection: Connection) -> str | None:
    """What tells the database from others: a standby that is promoted has it too, one that is restored has another.
    None where the role may not ask."""
    if connection.execute(_MAY_IDENTIFY).fetchone() != (True,):
        return None
    row = connection.execute(_IDENTITY).fetchone()
    return None if row is None else str(row[0])
