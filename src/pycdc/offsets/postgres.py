"""The checkpoint in a Postgres table, one row a pipeline.

The guard against moving backward is part of the upsert, so it holds between instances too. In the source's own database
each store writes a little WAL, which the slot reads and drops unless the table is published: leave it out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pycdc.clients import own_tables as ownership
from pycdc.clients import postgres as client
from pycdc.clients import search_path
from pycdc.clients.postgres_errors import ErrorMeaning, translate
from pycdc.errors import ConnectionLost, EnvironmentNotReady, PycdcError
from pycdc.interfaces import Checkpoint
from pycdc.offsets.encoding import dump, load, went_backward

T = TypeVar("T")

_SECONDS: Final = 10.0
"""What a call may take: a row is read or written. Then the database counts as away."""
_REMEDY: Final = (
    "check `offsets.postgres.dsn`, that the server runs, and that the standbys of its synchronous_standby_names do"
)

_EXISTS: Final = "SELECT pg_catalog.to_regclass(%s) IS NOT NULL"
_PLACE: Final = """SELECT coalesce((
    SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = pg_catalog.to_regclass(%s)), pg_catalog.current_schema())::pg_catalog.text"""
"""The schema that the role's search_path gives a name: where the table is, else where it would be made."""
_CREATE: Final = """CREATE TABLE IF NOT EXISTS {table} (
    name text PRIMARY KEY,
    position pg_lsn NOT NULL,
    index bigint NOT NULL,
    source jsonb NOT NULL,
    checkpoint text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now())"""
_LACKING: Final = """SELECT CASE
    WHEN t.oid IS NULL AND s.oid IS NULL THEN 'make, in no schema of its search_path,'
    WHEN t.oid IS NULL AND NOT pg_catalog.has_schema_privilege(s.oid, 'CREATE') THEN 'make'
    WHEN t.oid IS NOT NULL AND NOT (pg_catalog.has_table_privilege(t.oid, 'SELECT')
        AND pg_catalog.has_table_privilege(t.oid, 'INSERT') AND pg_catalog.has_table_privilege(t.oid, 'UPDATE'))
        THEN 'read and write' END
FROM (SELECT pg_catalog.to_regclass(%s::text)::oid AS oid) AS t,
    (SELECT pg_catalog.to_regnamespace(%s::text)::oid AS oid) AS s"""
_LOAD: Final = "SELECT checkpoint FROM {table} WHERE name = %s"
_STORE: Final = """INSERT INTO {table} AS stored (name, position, index, source, checkpoint)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, index = excluded.index, source = excluded.source,
    checkpoint = excluded.checkpoint, stored_at = now()
WHERE (stored.position, stored.index) <= (excluded.position, excluded.index)
    OR stored.source IS DISTINCT FROM excluded.source
    OR excluded.position = '0/0'"""
_CLEAR: Final = "DELETE FROM {table} WHERE name = %s"
_LIMIT: Final = "SELECT pg_catalog.set_config('statement_timeout', %s, false)"
# A database may default to asynchronous commits; a checkpoint must be durable when `store` returns.
_DURABLE: Final = """SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local')"""


class PostgresOffsetStore:
    """Row `name` of `table` (``schema.table`` or just ``table``), which the first `store` creates.

    No call lasts long once `stopping` is set.
    """

    def __init__(
        self, dsn: str, name: str, table: str = "pycdc_offsets", stopping: threading.Event | None = None
    ) -> None:
        self._stopping = stopping
        self._dsn = dsn
        self._name = name
        self._shown = table
        self._named = sql.Identifier(*table.split(".", 1))
        self._table = self._named
        self._schema: str | None = None
        self._known = False
        self._connection: psycopg.Connection[Any] | None = None

    def load(self) -> Checkpoint | None:
        return self._run(self._load)

    def store(self, checkpoint: Checkpoint) -> None:
        if not self._run(lambda connection: self._store(connection, checkpoint)):
            raise went_backward(f"the offset table {self._shown}", checkpoint)

    def clear(self) -> None:
        self._run(self._clear)

    def require_room(self) -> None:
        """Raise EnvironmentNotReady where `store` would lack a right. Changes nothing."""
        self._run(self._require_rights)

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

    def _require_rights(self, connection: psycopg.Connection[Any]) -> None:
        schema = None if self._schema is None else sql.Identifier(self._schema).as_string(connection)
        lacking = connection.execute(_LACKING, (self._table.as_string(connection), schema)).fetchone()
        if lacking is not None and lacking[0]:
            hint = self._special["42501"].hint
            raise EnvironmentNotReady(f"the role may not {lacking[0]} the offset table {self._shown}", hint=hint)

    def _clear(self, connection: psycopg.Connection[Any]) -> None:
        if self._exists(connection):
            connection.execute(self._sql(_CLEAR), (self._name,))

    def _exists(self, connection: psycopg.Connection[Any]) -> bool:
        row = connection.execute(_EXISTS, (self._table.as_string(connection),)).fetchone()
        found = row is not None and bool(row[0])
        if found and not self._known:
            ownership.require_ours(connection, self._table, ownership.columns_of(_CREATE))
            self._known = True
        return found

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(table=self._table)

    def _run(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do `work` on the connection, opening it where needed. A broken one is dropped: the next call gets another."""
        try:
            return work(self._ready())
        except psycopg.Error as error:
            if error.sqlstate is None or isinstance(error, psycopg.OperationalError):
                self.close()
            raise self._failed(error) from None

    def _ready(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = client.connect(
                self._dsn,
                "offsets.postgres.dsn",
                seconds=_SECONDS,
                stopping=self._stopping,
                defaults={"fallback_application_name": "pycdc-offsets"},
                autocommit=True,
            )
            self._locate(self._connection)
            self._connection.execute(_DURABLE)
            # A little less than the client's own limit, so that the server lets go of what the statement holds.
            self._connection.execute(
                "SELECT pg_catalog.set_config('statement_timeout', %s, false)", (f"{_SECONDS * 800:.0f}",)
            )
        return self._connection

    def _locate(self, connection: psycopg.Connection[Any]) -> None:
        """Give the table its schema, by the role's search_path; from then on nothing is looked up there."""
        row = connection.execute(_PLACE, (self._named.as_string(connection),)).fetchone()
        schema, dot, _ = self._shown.partition(".")
        self._schema = schema if dot else None if row is None else row[0]
        if not dot and self._schema is not None:
            self._table = sql.Identifier(self._schema, self._shown)
        self._known = False
        search_path.pin(connection)

    def _failed(self, error: psycopg.Error) -> PycdcError:
        where = f"the database of the offset table {self._shown}"
        return translate(error, self._special, where=where, remedy=_REMEDY)

    @property
    def _special(self) -> Mapping[str, ErrorMeaning]:
        """What the table adds to the meaning of errors. DETAIL holds values, the primary message none."""
        lacking = ErrorMeaning(
            EnvironmentNotReady,
            f"have its owner create {self._shown} and run GRANT SELECT, INSERT, UPDATE, DELETE ON {self._shown} TO "
            "the role",
        )
        strange = ErrorMeaning(
            EnvironmentNotReady,
            f"drop {self._shown} and let pycdc create it, or name another one under offsets.postgres.table",
        )
        return {
            "42501": lacking,
            "55P03": ErrorMeaning(ConnectionLost, ""),
            **dict.fromkeys(("22", "23", "42", "42704", "42P01", "55"), strange),
        }
