"""Sessions at the source and at the target: what each pins, how long its statements may take, how it waits for locks.

Every session at the source, replication or not, pins what the text of a value depends on, so that the stream and the
snapshot write the same bytes. SET after connecting outranks the DSN's `options`, libpq's PG* environment and
ALTER ROLE … SET.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import psycopg

from pycdc.clients import postgres as client
from pycdc.clients import search_path
from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import source_error, target_error
from pycdc.clients.quoting import quoted_table
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.observability.outages import Outages

_SOURCE_SETTINGS: Final = {
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
_GRACE: Final = 5.0
"""Seconds that the server has to say that a statement took too long; then it counts as silent."""
_OF_STATEMENTS: Final = ("statement_timeout", "lock_timeout", "idle_session_timeout")
"""A session that reads a slot, or makes one, is no matter of these: it waits for open transactions, and has its own."""

_TARGET_SETTINGS: Final = {
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

_MAY_IDENTIFY: Final = "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
_IDENTITY: Final = """SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()) || '/' || oid
FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"""


def connect_to_source(
    dsn: str,
    *,
    replication: bool = False,
    seconds: float = STATEMENT_SECONDS,
    stopping: threading.Event | None = None,
) -> Connection:
    """Open a connection in autocommit, whose statements take no longer than `seconds`, not long once `stopping` is set.

    They wait for locks for a moment only. Shorter limits of the server, the role or the DSN stay. `seconds` of 0: as
    long as it takes. Raises ConfigError, EnvironmentNotReady or ConnectionLost.
    """
    try:
        connection: Connection = client.connect(
            dsn,
            "the source's dsn",
            seconds=seconds + _GRACE if seconds else 0.0,
            stopping=stopping,
            defaults={"fallback_application_name": "pycdc", **({"replication": "database"} if replication else {})},
            autocommit=True,
            prepare_threshold=None,
        )
    except psycopg.Error as error:
        # What libpq says of connecting tells host and port, and not whose server it is.
        raise source_error(error, where="" if error.sqlstate else "the source database") from None
    try:
        _pin(connection, _limits(replication, seconds))
    except psycopg.Error as error:
        connection.close()
        raise source_error(error) from None
    return connection


def _limits(replication: bool, seconds: float) -> list[str]:
    """Return calls of SQL that set the limits. A limit of 0 is none."""
    if replication:
        return [f"pg_catalog.set_config('{name}', '0', false)" for name in _OF_STATEMENTS]
    limits = {"lock_timeout": _LOCK_MS, "statement_timeout": int(seconds * 1000)}
    present = "nullif(extract(epoch FROM pg_catalog.current_setting('{name}')::interval) * 1000, 0)"
    return [
        f"pg_catalog.set_config('{name}', least({present.format(name=name)}, {limit})::int8::text, false)"
        for name, limit in limits.items()
    ]


def _pin(connection: Connection, limits: list[str]) -> None:
    # First and alone: what the other settings are computed with is looked up along the path.
    search_path.pin(connection)
    calls = [f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in _SOURCE_SETTINGS.items()]
    connection.execute(f"SELECT {', '.join(calls + limits)}".encode())


def in_recovery(dsn: str) -> bool:
    """Whether the server is a standby."""
    with connect_to_source(dsn) as connection:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    return row is not None and bool(row[0])


def leave_text_raw(connection: Connection) -> None:
    """Receive the texts of a database in SQL_ASCII as they are, where Postgres would refuse what is not UTF-8.

    psycopg then returns text as bytes: for connections that go on to read rows only.
    """
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.execute("SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false)")


def connect_to_target(dsn: str, statement_seconds: float = 0, *, stopping: threading.Event | None = None) -> Connection:
    """Open a connection whose transactions are begun by their first statement. Raises PycdcError.

    A statement may take `statement_seconds`, 0: as long as it likes; and not much longer once `stopping` is set. It
    finds what the catalog has, and no more.
    """
    return _open_target(dsn, statement_seconds, stopping, lambda connection: search_path.pin(connection))


def connect_to_write(
    settings: PostgresSinkConfig,
    statement_seconds: float = 0,
    *,
    stopping: threading.Event | None = None,
    outages: Outages | None = None,
) -> Connection:
    """Open a connection as `connect_to_target` does, with the schemas that the tables' triggers need.

    `outages` is told of statements that take long.

    Raises EnvironmentNotReady where another role may write one of the schemas.
    """

    def pin(connection: Connection) -> None:
        path = _path(connection, settings)
        search_path.refuse(path.problems)
        search_path.pin(connection, path.schemas)

    dsn = settings.dsn.get_secret_value()
    connection = _open_target(dsn, statement_seconds, stopping, pin)
    connection.outages, connection.name = outages, f"the database of sink.postgres{client.place(dsn)}"
    return connection


def path_problems(settings: PostgresSinkConfig) -> list[search_path.PathProblem]:
    """Why `connect_to_write` would refuse. Raises PycdcError."""
    found: list[search_path.PathProblem] = []
    _open_target(
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
    return _Path(
        schemas, search_path.problems(connection, schemas, [quoted_table(route.table) for route in settings.routes])
    )


def _open_target(
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
        raise target_error(error) from None
    try:
        pin(connection)
        for name, value in {**_TARGET_SETTINGS, "statement_timeout": f"{statement_seconds * 1000:.0f}"}.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
        connection.commit()
    except psycopg.Error as error:
        connection.close()
        raise target_error(error) from None
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def connected(dsn: str) -> Iterator[Connection]:
    """Open a connection for a few questions; what the server refuses is raised as PycdcError."""
    connection = connect_to_target(dsn)
    try:
        yield connection
    except psycopg.Error as error:
        raise target_error(error) from None
    finally:
        connection.close()


def database_identity(connection: Connection) -> str | None:
    """Return the database's identity; None where the role may not ask.

    A standby that is promoted has the same, one that is restored has another.
    """
    if connection.execute(_MAY_IDENTIFY).fetchone() != (True,):
        return None
    row = connection.execute(_IDENTITY).fetchone()
    return None if row is None else str(row[0])
