"""The bookkeeping of one pipeline, from outside: what is stored, what is parked, and how to remove all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_sessions import connected, database_identity
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.model.event import Partition
from pycdc.model.origin import pipeline_of_origin
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.sagas.saga_tables import TABLES as SAGA_TABLES

TABLES: Final = (
    *("apply_offsets", "parked", "inbox", "positions", "conflicts", "conflict_watch", "write_times"),
    *SAGA_TABLES,
)
"""All that a pipeline may have rows in, by a column `pipeline`. Not each of them need be there."""
_THERE: Final = """SELECT c.relname FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'pipeline' AND NOT a.attisdropped
WHERE n.nspname = %s AND c.relname = ANY (%s) AND c.relkind IN ('r', 'p')"""
_OFFSETS: Final = """SELECT topic, partition, next_offset, epoch, applied_at, to_jsonb(o) ->> 'topic_id',
    coalesce(nullif(to_jsonb(o) -> 'left_out', 'null'), '{{}}')
FROM {table} AS o WHERE pipeline = %s ORDER BY 1, 2"""
_PARKED: Final = "SELECT error, count(*) FROM {table} WHERE pipeline = %s GROUP BY 1 ORDER BY 2 DESC, 1"
_BLOCKED: Final = "SELECT count(DISTINCT (topic, key)) FROM {table} WHERE pipeline = %s AND key IS NOT NULL"
_COUNT: Final = "SELECT count(*) FROM {table} WHERE pipeline = %s"
_UNDECIDED: Final = "SELECT count(*) FROM {table} WHERE pipeline = %s AND decision = 'parked' AND resolved_at IS NULL"
_DELETE: Final = "DELETE FROM {table} WHERE pipeline = %s"
_ANY: Final = "SELECT EXISTS (SELECT FROM {table})"
_ORIGINS: Final = "SELECT roname FROM pg_replication_origin ORDER BY 1"
_DROP_ORIGIN: Final = "SELECT pg_replication_origin_drop(%s)"


@dataclass(frozen=True, slots=True)
class StoredOffset:
    """`epoch` counts how often the partition was taken over; `applied_at` is of the last transaction that moved it.

    `topic_id`: see `pycdc.clients.topic_identity`; None where it was never told. `left_out` counts events that were
    written nowhere, by reason.
    """

    partition: Partition
    next: int
    epoch: int
    applied_at: datetime
    topic_id: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PipelineState:
    """What the target database holds of a pipeline.

    `parked` counts records by error; `conflicts` is None where the table is not there, `undecided` counts those that
    wait for somebody's decision; `database` identifies the database among others.
    """

    offsets: tuple[StoredOffset, ...] = ()
    parked: Mapping[str, int] | None = None
    blocked_keys: int = 0
    conflicts: int | None = None
    database: str | None = None
    undecided: int = 0

    @property
    def left_out(self) -> Mapping[str, Mapping[str, int]]:
        """Events that were written nowhere, by topic and reason."""
        found: dict[str, Counter[str]] = {}
        for one in self.offsets:
            if one.left_out:
                found.setdefault(one.partition.topic, Counter()).update(one.left_out)
        return {topic: dict(sorted(reasons.items())) for topic, reasons in sorted(found.items())}


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a pipeline has in the database: rows by table, and replication origins.

    `unused` are tables that no pipeline has rows in.
    """

    rows: Mapping[str, int]
    origins: tuple[str, ...]
    unused: tuple[str, ...] = ()


def read_pipeline_state(settings: PostgresSinkConfig, pipeline: str) -> PipelineState:
    """Read a pipeline's state; tables that were never made count as empty. Raises PycdcError without a database."""
    with connected(settings.dsn.get_secret_value()) as connection:
        bookkeeping = _StateTables(connection, settings.bookkeeping, pipeline)
        offsets = [
            StoredOffset(Partition(topic, number), *rest)
            for topic, number, *rest in bookkeeping.ask("apply_offsets", _OFFSETS)
        ]
        parked = {str(error): int(count) for error, count in bookkeeping.ask("parked", _PARKED)}
        blocked = bookkeeping.ask("parked", _BLOCKED)
        conflicts = bookkeeping.ask("conflicts", _COUNT)
        return PipelineState(
            tuple(offsets),
            parked,
            blocked[0][0] if blocked else 0,
            conflicts[0][0] if conflicts else None,
            database_identity(connection),
            bookkeeping.ask("conflicts", _UNDECIDED)[0][0] if conflicts else 0,
        )


def leftovers(settings: PostgresSinkConfig, pipeline: str) -> Leftovers:
    """Return what is left of a pipeline in the target. Raises PycdcError."""
    with connected(settings.dsn.get_secret_value()) as connection:
        bookkeeping = _StateTables(connection, settings.bookkeeping, pipeline)
        rows = {table: int(bookkeeping.ask(table, _COUNT)[0][0]) for table in bookkeeping.there}
        unused = () if bookkeeping.used() else tuple(bookkeeping.there)
        return Leftovers(rows, tuple(_origins(connection, pipeline)), unused)


def remove_pipeline_state(settings: PostgresSinkConfig, pipeline: str) -> Iterator[str]:
    """Remove what `leftovers` tells, and tell what was done.

    Raises EnvironmentNotReady where a process of the pipeline is still connected; nothing was removed then.
    """
    dsn = settings.dsn.get_secret_value()
    with connected(dsn) as connection:
        for origin in _origins(connection, pipeline):
            yield _drop_origin(connection, origin)
        bookkeeping = _StateTables(connection, settings.bookkeeping, pipeline)
        ApplyOffsets(dsn, pipeline, settings.bookkeeping).sign(connection)
        for table in bookkeeping.there:
            count = bookkeeping.delete(table)
            rows = "1 row" if count == 1 else f"{count} rows"
            yield f"removed {rows} of {pipeline} from {settings.bookkeeping}.{table}"
        connection.commit()
        if bookkeeping.there and not bookkeeping.used():
            yield from bookkeeping.drop()


class _StateTables:
    def __init__(self, connection: Connection, schema: str, pipeline: str) -> None:
        self._connection = connection
        self._schema = schema
        self._pipeline = pipeline
        found = {name for (name,) in connection.execute(_THERE, (schema, list(TABLES)))}
        self.there = [table for table in TABLES if table in found]

    def ask(self, table: str, query: LiteralString) -> list[Any]:
        """Return the rows of the query's answer; none where the table is not there."""
        if table not in self.there:
            return []
        return self._connection.execute(self._on(table, query), (self._pipeline,)).fetchall()

    def delete(self, table: str) -> int:
        return self._connection.execute(self._on(table, _DELETE), (self._pipeline,)).rowcount

    def used(self) -> bool:
        """Return whether any pipeline has a row in any of them."""
        return any(self._connection.execute(self._on(table, _ANY)).fetchone() == (True,) for table in self.there)

    def drop(self) -> Iterator[str]:
        """Drop the tables, and their schema if nothing else is in it; yield their names."""
        names = sql.SQL(", ").join(sql.Identifier(self._schema, table) for table in self.there)
        tables = ", ".join(f"{self._schema}.{table}" for table in self.there)
        statement = sql.SQL("DROP TABLE {}").format(names)
        try:
            self._connection.execute(statement)
            schema = self._schema != "public" and self._drop_schema()
            self._connection.commit()  # of both: an empty schema would be nobody's
        except psycopg.errors.InsufficientPrivilege:
            self._connection.rollback()
            yield f"kept {tables}, which are empty: their owner can run {statement.as_string(self._connection)}"
            return
        yield f"dropped {tables}: no pipeline uses them"
        if schema:
            yield f"dropped schema {self._schema}"

    def _drop_schema(self) -> bool:
        try:
            with self._connection.transaction():
                self._connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(self._schema)))
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DependentObjectsStillExist):
            return False
        return True

    def _on(self, table: str, query: LiteralString) -> sql.Composed:
        return sql.SQL(query).format(table=sql.Identifier(self._schema, table))


def _origins(connection: Connection, pipeline: str) -> list[str]:
    return [name for (name,) in connection.execute(_ORIGINS) if pipeline_of_origin(name) == pipeline]


def _drop_origin(connection: Connection, name: str) -> str:
    try:
        connection.execute(_DROP_ORIGIN, (name,))
        connection.commit()
    except psycopg.errors.ObjectInUse:
        connection.rollback()
        raise EnvironmentNotReady(
            f"replication origin {name} is in use: a process of the pipeline is connected", hint="stop it first"
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        connection.rollback()
        return f"kept replication origin {name}: a superuser can run SELECT pg_replication_origin_drop('{name}')"
    return f"dropped replication origin {name}"
