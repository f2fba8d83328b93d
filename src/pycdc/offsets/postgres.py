"""The checkpoint in a Postgres table, one row a pipeline.

The guard against moving backward is part of the upsert, so it holds between instances too. In the source's own database
each store writes a little WAL, which the slot reads and drops unless the table is published: leave it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady, PycdcError
from pycdc.interfaces import Checkpoint
from pycdc.offsets.encoding import dump, load, went_backward

T = TypeVar("T")

_EXISTS: Final = "SELECT to_regclass(%s) IS NOT NULL"
_CREATE: Final = """CREATE TABLE IF NOT EXISTS {table} (
    name text PRIMARY KEY,
    position pg_lsn NOT NULL,
    index bigint NOT NULL,
    source jsonb NOT NULL,
    checkpoint text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now())"""
_LOAD: Final = "SELECT checkpoint FROM {table} WHERE name = %s"
_STORE: Final = """INSERT INTO {table} AS stored (name, position, index, source, checkpoint)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, index = excluded.index, source = excluded.source,
    checkpoint = excluded.checkpoint, stored_at = now()
WHERE (stored.position, stored.index) <= (excluded.position, excluded.index)
    OR stored.source IS DISTINCT FROM excluded.source
    OR excluded.position = '0/0'"""
_CLEAR: Final = "DELETE FROM {table} WHERE name = %s"
# A database may default to asynchronous commits; a checkpoint must be durable when `store` returns.
_DURABLE: Final = """SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local')"""


class PostgresOffsetStore:
    """Row `name` of `table` (``schema.table`` or just ``table``), which the first `store` creates."""

    def __init__(self, dsn: str, name: str, table: str = "pycdc_offsets") -> None:
        self._dsn = dsn
        self._name = name
        self._shown = table
        self._table = sql.Identifier(*table.split(".", 1))
        self._connection: psycopg.Connection[Any] | None = None

    def load(self) -> Checkpoint | None:
        return self._run(self._load)

    def store(self, checkpoint: Checkpoint) -> None:
        if not self._run(lambda connection: self._store(connection, checkpoint)):
            raise went_backward(f"the offset table {self._shown}", checkpoint)

    def clear(self) -> None:
        self._run(self._clear)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _load(self, connection: psycopg.Connection[Any]) -> Checkpoint | None:
        if not self._exists(connection):
            return None
        row = connection.execute(self._sql(_LOAD), (self._name,)).fetchone()
        return None if row is None else load(row[0].encode(), f"row {self._name!r} of the offset table {self._shown}")

    def _store(self, connection: psycopg.Connection[Any], checkpoint: Checkpoint) -> bool:
        if not self._exists(connection):
            connection.execute(self._sql(_CREATE))
        position = checkpoint.position
        values = (self._name, str(position.lsn), position.index, Jsonb(checkpoint.source), dump(checkpoint).decode())
        return connection.execute(self._sql(_STORE), values).rowcount == 1

    def _clear(self, connection: psycopg.Connection[Any]) -> None:
        if self._exists(connection):
            connection.execute(self._sql(_CLEAR), (self._name,))

    def _exists(self, connection: psycopg.Connection[Any]) -> bool:
        row = connection.execute(_EXISTS, (self._table.as_string(connection),)).fetchone()
        return row is not None and bool(row[0])

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(table=self._table)

    def _run(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do `work` on the connection, opening it where needed. A broken one is dropped: the next call gets another."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._dsn, autocommit=True, application_name="pycdc-offsets")
                self._connection.execute(_DURABLE)
            return work(self._connection)
        except psycopg.Error as error:
            if error.sqlstate is None or isinstance(error, psycopg.OperationalError):
                self.close()
            raise self._failed(error) from None

    def _failed(self, error: psycopg.Error) -> PycdcError:
        """What the error means. DETAIL holds values, and what libpq says of a malformed DSN holds its password."""
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return EnvironmentNotReady(
                f"the role may not use the offset table {self._shown}: {error.diag.message_primary}",
                hint=f"have its owner create {self._shown} and run "
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON {self._shown} TO the role",
            )
        if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
            return ConfigError(
                "the dsn of the offsets is not a connection string that libpq understands",
                hint="write `host=… dbname=… user=…` or `postgresql://user@host/database` under offsets.postgres.dsn",
            )
        if error.sqlstate is None or isinstance(error, psycopg.OperationalError):
            return ConnectionLost(
                f"the database of the offset table {self._shown} is out of reach: {_first_line(error)}",
                hint="check `offsets.postgres.dsn` and that the server runs",
            )
        return EnvironmentNotReady(
            f"the database refuses to use the offset table {self._shown}: {error.diag.message_primary} "
            f"(SQLSTATE {error.sqlstate})",
            hint=f"drop {self._shown} and let pycdc create it, or name another one under offsets.postgres.table",
        )


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).partition("\n")[0]
