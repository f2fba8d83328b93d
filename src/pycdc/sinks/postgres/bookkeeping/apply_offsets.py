"""Which events were applied, by whom, and which were parked: two tables beside the data, in the same transactions.

Invariants:

1. Offsets move with the rows, or not at all.
2. A partition's offset moves from the value that this process expects, under the epoch that this process has, or not at
   all: whoever finds another value was overtaken, and stops.
3. Claiming raises the epoch. It waits for the former owner's transaction, so that what it returns is final.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from pycdc.clients import own_tables as ownership
from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import target_error
from pycdc.clients.postgres_sessions import connect_to_target, database_identity
from pycdc.clients.quoting import quoted_table
from pycdc.clients.topic_identity import another_topic
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import DeliveryError, EnvironmentNotReady, SinkFenced
from pycdc.model.event import Event, Partition
from pycdc.model.origin import MESSAGE_PREFIX, ChangeOrigin, mark
from pycdc.printable import Lines, lines
from pycdc.sinks.postgres.bookkeeping import deduplication as inbox
from pycdc.sinks.postgres.bookkeeping import redelivery as repeats
from pycdc.sinks.postgres.bookkeeping.tables import ADDED_COLUMNS, CREATE, LACKING_COLUMNS
from pycdc.sinks.postgres.conflicts import write_times
from pycdc.sinks.postgres.conflicts.conflict_table import TABLES as CONFLICT_TABLES
from pycdc.sinks.postgres.read_only import require_writable
from pycdc.sinks.postgres.sagas import saga_tables
from pycdc.sinks.postgres.target_tables import split_name

ParkedKey = tuple[str, bytes]
"""Topic and key: what an event and its followers share."""

_EXISTS: Final = "SELECT count(to_regclass(name)) = count(*) FROM unnest(%s::text[]) AS u(name)"
_TABLES: Final = ("apply_offsets", "parked", *CONFLICT_TABLES)
_SOMETIMES: Final = ("inbox", "positions", write_times.TABLE, *saga_tables.TABLES)
_HAS_SCHEMA: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)"
_PARTITIONS: Final = "SELECT count(*) FROM {offsets} WHERE pipeline = %s AND topic = %s"
_TOPICS: Final = "SELECT DISTINCT topic FROM {offsets} WHERE pipeline = %s"
_KNOWN: Final = "SELECT topic, partition, topic_id FROM {offsets} WHERE pipeline = %s AND topic = ANY(%s)"
_PLACES: Final = """SELECT %s, u.topic, u.partition, u.first, u.id
FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::text[]) AS u(topic, partition, first, id)
ORDER BY u.topic, u.partition
ON CONFLICT (pipeline, topic, partition)"""
_BEGIN: Final[
    LiteralString
] = f"""INSERT INTO {{offsets}} AS o (pipeline, topic, partition, next_offset, topic_id, epoch)
{_PLACES.replace("u.id", "u.id, 0", 1)} DO NOTHING"""
_CLAIM: Final[LiteralString] = f"""INSERT INTO {{offsets}} AS o (pipeline, topic, partition, next_offset, topic_id)
{_PLACES} DO UPDATE SET epoch = o.epoch + 1, topic_id = coalesce(excluded.topic_id, o.topic_id)
RETURNING o.topic, o.partition, o.next_offset, o.epoch"""
_ADVANCE: Final = """UPDATE {offsets} AS o SET next_offset = u.next, applied_at = now()
FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS u(topic, partition, expected, epoch, next)
WHERE o.pipeline = %s AND o.topic = u.topic AND o.partition = u.partition
    AND o.next_offset = u.expected AND o.epoch = u.epoch"""
_PARK: Final = """INSERT INTO {parked}
(pipeline, topic, partition, "offset", key, value, header_names, header_values, error, sqlstate, detail, record_ms)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (pipeline, topic, partition, "offset") DO NOTHING"""
_BLOCKED: Final = "SELECT DISTINCT topic, key FROM {parked} WHERE pipeline = %s AND key IS NOT NULL"
_MARK: Final = "SELECT pg_logical_emit_message(true, %s::text, %s::text)"
_MARK_WITH_ORIGIN: Final = f"{_MARK}, pg_replication_origin_xact_reset()"


class ClaimedPartition(NamedTuple):
    """A partition that is ours: the offset that the table must have, and the epoch."""

    expected: int
    epoch: int


class ApplyOffsets:
    """The applied offsets of a pipeline, for all its life: `Claims` for the source, bookkeeping for the sink.

    It is not thread-safe.
    """

    def __init__(
        self, dsn: str, pipeline: str, schema: str = "pycdc", tables: Collection[str] = (), *, has_inbox: bool = False
    ) -> None:
        """`tables` are those that the pipeline writes, for the mark; `has_inbox`: it needs the inbox's table too."""
        self._dsn = dsn
        self._pipeline = pipeline
        self._schema = schema
        self._names = {
            "schema": sql.Identifier(schema),
            "offsets": sql.Identifier(schema, "apply_offsets"),
            **{name: sql.Identifier(schema, name) for name in ("parked", *_SOMETIMES, *CONFLICT_TABLES)},
        }
        self._needed = (*_TABLES, "inbox") if has_inbox else _TABLES
        self._create = (*CREATE, *inbox.CREATE) if has_inbox else CREATE
        self.tables = frozenset(tables)
        self._connection: Connection | None = None
        self._held: dict[Partition, ClaimedPartition] = {}
        self.blocked: frozenset[ParkedKey] = frozenset()
        self.stopping: threading.Event | None = None
        self._looked = False

    @classmethod
    def of(cls, settings: PostgresSinkConfig, pipeline: str) -> ApplyOffsets:
        tables = {".".join(split_name(route.table)) for route in settings.routes}
        dsn = settings.dsn.get_secret_value()
        made = cls(dsn, pipeline, settings.bookkeeping, tables, has_inbox=settings.inbox is not None)
        made.fit(settings)
        return made

    def fit(self, settings: PostgresSinkConfig) -> None:
        """Have the tables that are needed: positions where something adds up, times where they decide, sagas."""
        needed = (
            (("positions",), repeats.CREATE, bool(repeats.adding(settings))),
            ((write_times.TABLE,), write_times.CREATE, write_times.remembered(settings)),
            (saga_tables.TABLES, saga_tables.CREATE, bool(settings.sagas)),
        )
        for names, create, is_needed in needed:
            if is_needed and names[0] not in self._needed:
                self._needed, self._create = (*self._needed, *names), (*self._create, *create)

    # For the loop, which begins with no checkpoint: each partition has its own.

    def load(self) -> None:
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # For the source.

    def database(self) -> str | None:
        with self._asking() as connection:
            return database_identity(connection)

    def topics(self) -> Collection[str]:
        with self._asking() as connection:
            return {topic for (topic,) in connection.execute(self._sql(_TOPICS), (self._pipeline,))}

    def begin(self, firsts: Mapping[Partition, int], ids: Mapping[str, str]) -> None:
        with self._asking() as connection:
            self.sign(connection)
            connection.execute(self._sql(_BEGIN), self._places(list(firsts.items()), ids))
            connection.commit()

    def claim(
        self, partitions: Sequence[Partition], first: Callable[[Partition], int], ids: Mapping[str, str] | None = None
    ) -> Mapping[Partition, int]:
        ids = ids or {}
        with self._asking() as connection:
            known = self._known(connection, partitions)
            connection.rollback()
            for partition, stored in known.items():
                if stored and stored != (now := ids.get(partition.topic, stored)):
                    raise another_topic(partition.topic, stored, now)
            # Brokers take their time to answer, and a transaction must not wait for them.
            begin = [(one, 0 if one in known else first(one)) for one in partitions]
            self.sign(connection)
            rows = connection.execute(self._sql(_CLAIM), self._places(begin, ids)).fetchall()
            found = {
                Partition(topic, number): ClaimedPartition(expected, epoch) for topic, number, expected, epoch in rows
            }
            if "positions" in self._needed:
                replaces = [one for one in partitions if one not in known]
                places = ([one.topic for one in replaces], [one.number for one in replaces])
                connection.execute(self._sql(repeats.FORGET), (*places, self._pipeline))
            self.blocked = self.parked(connection)
            connection.commit()
        self._held.update(found)
        return {partition: held.expected for partition, held in found.items()}

    def release(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self._held.pop(partition, None)

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        """Open the source's own connection. An error inside ends it, and the next question gets another."""
        try:
            connection = self._ready()
            yield connection
            connection.rollback()
        except psycopg.Error as error:
            self.close()
            raise target_error(error) from None
        except BaseException:
            self.close()
            raise

    def _known(self, connection: Connection, partitions: Sequence[Partition]) -> dict[Partition, str | None]:
        topics = sorted({partition.topic for partition in partitions})
        rows = connection.execute(self._sql(_KNOWN), (self._pipeline, topics)).fetchall()
        return {Partition(topic, number): identity for topic, number, identity in rows}

    def _places(self, begin: list[tuple[Partition, int]], ids: Mapping[str, str]) -> tuple[Any, ...]:
        places = [one for one, _ in begin]
        topics, numbers = [one.topic for one in places], [one.number for one in places]
        return self._pipeline, topics, numbers, [offset for _, offset in begin], [ids.get(one) for one in topics]

    # For the sink, on its own connection, within its transaction.

    def sign(self, connection: Connection, change_origin: ChangeOrigin | None = None, *, origin: bool = False) -> None:
        """Write the mark by which a capture of this database recognizes the transaction: its first statement.

        `origin`: the session has a replication origin. Then all its transactions would carry the time of the first.
        """
        text = _MARK_WITH_ORIGIN if origin else _MARK
        connection.execute(text, (MESSAGE_PREFIX, mark(self._pipeline, self.tables, change_origin)))

    def moving(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return those of `offsets` that are not where the table has them anyway."""
        return {one: to for one, to in offsets.items() if one not in self._held or self._held[one].expected != to}

    def advance(self, connection: Connection, offsets: Mapping[Partition, int]) -> None:
        """Move the offsets, locking them until the transaction ends. Raises SinkFenced."""
        self.advancing(connection, offsets)()

    def advancing(self, connection: Connection, offsets: Mapping[Partition, int]) -> Callable[[], None]:
        """Do what `advance` does in a pipeline: what is returned raises, once the statement's answer is there."""
        held = {partition: self._held.get(partition) for partition in offsets}
        ours = [(partition, place) for partition, place in held.items() if place is not None]
        cursor = None
        if len(ours) == len(offsets):
            parameters: list[Any] = [
                [partition.topic for partition, _ in ours],
                [partition.number for partition, _ in ours],
                [place.expected for _, place in ours],
                [place.epoch for _, place in ours],
                [offsets[partition] for partition, _ in ours],
            ]
            cursor = connection.execute(self._sql(_ADVANCE), (*parameters, self._pipeline), prepare=True)

        def check() -> None:
            if cursor is None or cursor.rowcount != len(offsets):
                raise SinkFenced(
                    f"another process of {self._pipeline} has taken over {', '.join(map(str, sorted(offsets)))}",
                    hint="nothing was written twice; start this process again, and it takes its share",
                )

        return check

    def require(self, starts: Mapping[Partition, int]) -> None:
        """Raise DeliveryError where a partition was read from elsewhere than where it is applied to."""
        for partition, start in starts.items():
            held = self._held.get(partition)
            if held is not None and held.expected != start:
                raise DeliveryError(
                    f"{partition} was read from offset {start} on, and is applied to offset {held.expected}",
                    hint="the pipeline reads it again; if it does not go on, report this with the log",
                )

    def advanced(self, offsets: Mapping[Partition, int]) -> None:
        """Take note that the transaction is committed."""
        for partition, offset in offsets.items():
            self._held[partition] = self._held[partition]._replace(expected=offset)

    def park(self, connection: Connection, event: Event, error: str, sqlstate: str | None, detail: str) -> None:
        names = [_storable(name) for name, _ in event.headers]
        values = [value for _, value in event.headers]
        place = (self._pipeline, event.partition.topic, event.partition.number, event.offset)
        parameters = (
            *place,
            event.raw_key,
            event.raw_value,
            names,
            values,
            error,
            sqlstate,
            _storable(detail),
            event.timestamp,
        )
        connection.execute(self._sql(_PARK), parameters)

    def partitions_of(self, connection: Connection, topic: str) -> int:
        """Return how many partitions of a topic have an offset."""
        row = connection.execute(self._sql(_PARTITIONS), (self._pipeline, topic)).fetchone()
        return int(row[0]) if row else 0

    def parked(self, connection: Connection) -> frozenset[ParkedKey]:
        """Whose followers have to wait."""
        rows = connection.execute(self._sql(_BLOCKED), (self._pipeline,)).fetchall()
        return frozenset((topic, bytes(key)) for topic, key in rows)

    # Tables.

    def ensure_tables(self, connection: Connection) -> None:
        """Make them, and columns that are missing. Raises EnvironmentNotReady with the SQL where the role may not."""
        if not self._looked:  # later on, a server is waited for that takes no writes for a while
            require_writable(connection)
            self._looked = True
        if self.tables_exist(connection):
            self._require_ours(connection)
            connection.rollback()
            return
        try:
            self.sign(connection)
            # CREATE SCHEMA IF NOT EXISTS asks for the right to make one even where it is there.
            there = connection.execute(_HAS_SCHEMA, (self._schema,)).fetchone() == (True,)
            made = self._there(connection)
            for statement in () if made else self._create[there:]:
                connection.execute(self._sql(statement))
            for statement_of_column in self._lacking(connection):
                connection.execute(statement_of_column)
            self._require_ours(connection)
            connection.commit()
        except psycopg.errors.InsufficientPrivilege:
            connection.rollback()
            raise EnvironmentNotReady(
                f"tables of pycdc's own ({', '.join(self._needed)}) are not in schema {self._schema} as this version "
                "needs them, and the role may not make them",
                hint=lines("let an owner run:", self.create_sql(connection)),
            ) from None

    def _require_ours(self, connection: Connection) -> None:
        """Raise EnvironmentNotReady for a table that another role owns, or another version made."""
        written = [quoted_table(table) for table in self.tables]
        declared = {self._sql(text).as_string(connection).partition("(")[0]: text for text in self._create}
        for name in self._needed:
            made = f"CREATE TABLE IF NOT EXISTS {self._own(name).as_string(connection)} "
            ownership.require_ours(connection, self._own(name), ownership.columns_of(declared[made]), written)

    def tables_exist(self, connection: Connection) -> bool:
        """Return whether the tables exist, with all of their columns."""
        return self._there(connection) and not self._lacking(connection)

    def _there(self, connection: Connection) -> bool:
        names = [self._own(name).as_string(connection) for name in self._needed]
        row = connection.execute(_EXISTS, (names,)).fetchone()
        return row is not None and bool(row[0])

    def _lacking(self, connection: Connection) -> list[sql.Composed]:
        """Return the statements that add the columns that are missing."""
        tables = [self._own(table).as_string(connection) for table, _, _ in ADDED_COLUMNS]
        asked = (tables, [column for _, column, _ in ADDED_COLUMNS])
        lacking = {column for _, column in connection.execute(LACKING_COLUMNS, asked)}
        adding = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}")
        return [
            adding.format(self._own(table), sql.Identifier(column), sql.SQL(kind))
            for table, column, kind in ADDED_COLUMNS
            if column in lacking
        ]

    def create_sql(self, connection: Connection) -> Lines:
        """Return what an owner has to run, with the grants."""
        role = sql.Identifier(connection.info.user)
        grants = sql.SQL(
            "GRANT USAGE ON SCHEMA {schema} TO {role};\nGRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role};"
        ).format(role=role, tables=sql.SQL(", ").join(map(self._own, self._needed)), **self._names)
        made = [self._sql(statement) for statement in self._create]
        made += self._lacking(connection) if self._there(connection) else []
        return Lines("\n".join([*(one.as_string(connection) + ";" for one in made), grants.as_string(connection)]))

    def _own(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._schema, table)

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(**self._names)

    def _ready(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect_to_target(self._dsn, stopping=self.stopping)
            self.ensure_tables(self._connection)
        return self._connection


def _storable(text: str) -> str:
    """Return what Postgres takes of any text: parking must never fail."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
