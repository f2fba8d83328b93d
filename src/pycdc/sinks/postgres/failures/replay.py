"""Parked events, applied after all: in the order of their offsets, until their key is free or one cannot be applied.

An event is one transaction. It begins with the lock on the offsets of the partition, which the running pipeline takes
too, before it looks at what is parked: so no follower is parked that nobody would find, and nothing overtakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from pycdc.clients.postgres_errors import described, target_error
from pycdc.clients.postgres_sessions import connect_to_write
from pycdc.config.postgres_sink import PostgresSinkConfig, Route
from pycdc.errors import ApplyError, EnvironmentNotReady
from pycdc.model.event import Event, Partition
from pycdc.model.origin import read_headers
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.batch_counters import BatchCounters
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.conflicts.history import ConflictHistory, RecordPlace
from pycdc.sinks.postgres.conflicts.resolver import ConflictResolver
from pycdc.sinks.postgres.conflicts.row_images import keep_image, touch, write_image
from pycdc.sinks.postgres.conflicts.setup import set_up_conflicts
from pycdc.sinks.postgres.failures.errors import FaultKind, fault
from pycdc.sinks.postgres.replication_origin import set_up_origin
from pycdc.sinks.postgres.route_checks import read_tables
from pycdc.sinks.postgres.routing.router import Functions, RouteTable
from pycdc.sinks.postgres.routing.topic_order import TopicOrder
from pycdc.sinks.postgres.sagas.saga_tracker import SagaTracker
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.foreign_key_order import tied
from pycdc.sinks.postgres.writing.statements import parameters, statement
from pycdc.sinks.postgres.writing.write_errors import WriteRejected
from pycdc.sinks.postgres.writing.writes import RowWrite, groups_of, shape_of

Decode = Callable[[Partition, int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]], Event]

_LOCK: Final = "SELECT 1 FROM {offsets} WHERE pipeline = %s AND topic = %s AND partition = %s FOR UPDATE"
_KEYS: Final = """SELECT topic, partition, key, min("offset"), min(record_ms) FROM {parked} WHERE pipeline = %s
GROUP BY topic, partition, key, CASE WHEN key IS NULL THEN "offset" END ORDER BY 1, 2, 4"""
_OF_KEY: Final = """FROM {parked} WHERE pipeline = %s AND topic = %s AND partition = %s
    AND (key = %s OR (key IS NULL AND %s::bytea IS NULL AND "offset" = %s))"""
_FIRST: Final[
    LiteralString
] = f"""SELECT "offset", coalesce(record_ms, (extract(epoch FROM parked_at) * 1000)::bigint), key,
    value, header_names, header_values
{_OF_KEY} ORDER BY "offset" LIMIT 1 FOR UPDATE"""  # noqa: S608  (both parts are constants)
_COUNT: Final[LiteralString] = f"SELECT count(*) {_OF_KEY}"
_KEY: Final = 'SELECT key FROM {parked} WHERE pipeline = %s AND topic = %s AND partition = %s AND "offset" = %s'
_DELETE: Final = 'DELETE FROM {parked} WHERE pipeline = %s AND topic = %s AND partition = %s AND "offset" = %s'


@dataclass(frozen=True, slots=True)
class Waiting:
    """Records that wait for each other: those of a key in a partition, or one without a key."""

    partition: Partition
    key: bytes | None
    first: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """`left` wait still, because of `reason`: what is wrong with the first of them."""

    waiting: Waiting
    applied: int
    left: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    router: RouteTable
    tables: Mapping[str, TargetTable]
    origin: str | None
    conflicts: ConflictResolver


class Replay:
    """Applies parked records for one command.

    `decode` is a decoder's; a record whose time was not kept gets that of its parking.
    """

    def __init__(
        self, settings: PostgresSinkConfig, pipeline: str, decode: Decode, functions: Functions | None = None
    ) -> None:
        self._pipeline = pipeline
        self._decode = decode
        self._settings = settings
        self._functions = functions
        self._names = {
            "offsets": sql.Identifier(settings.bookkeeping, "apply_offsets"),
            "parked": sql.Identifier(settings.bookkeeping, "parked"),
        }
        self._apply_offsets = ApplyOffsets.of(settings, pipeline)
        self._sagas = SagaTracker(settings, pipeline)
        self._connection = connect_to_write(settings)
        self._rules: _Rules | None = None
        with self._open():
            always = ApplyOffsets(settings.dsn.get_secret_value(), pipeline, settings.bookkeeping)
            if not always.tables_exist(self._connection):
                raise EnvironmentNotReady(
                    f"tables of pycdc's own are not in schema {settings.bookkeeping}",
                    hint="start the pipeline with `pycdc run`, which makes them",
                )
            self.archive = ConflictHistory(self._connection, pipeline, settings.bookkeeping)

    @contextmanager
    def _open(self) -> Iterator[None]:
        """End this object with whatever goes wrong inside the block."""
        try:
            yield
        except psycopg.Error as error:
            self.close()
            raise target_error(error) from None
        except BaseException:
            self.close()
            raise

    def _ready(self) -> _Rules:
        """Return what is needed to apply records, but not to look at them."""
        if self._rules is None:
            with self._open():
                self._apply_offsets.ensure_tables(self._connection)  # a rule of today may need one more
                _, tables = tied(self._connection, self._settings, read_tables(self._connection, self._settings.routes))
                origin = set_up_origin(self._connection, self._pipeline)
                made = set_up_conflicts(self._connection, self._settings, self._pipeline, tables, origin)
                order = TopicOrder(self._apply_offsets, self._connection)
                router = RouteTable(self._settings, tables, self._functions, order)
                self._rules = _Rules(router, tables, origin, made)
        return self._rules

    def close(self) -> None:
        self._connection.close()

    def waiting(self) -> list[Waiting]:
        """Return parked records in the order of their times; within a partition, in that of their offsets."""
        rows = self._connection.execute(self._sql(_KEYS), (self._pipeline,)).fetchall()
        self._connection.rollback()
        latest: dict[Partition, int] = {}
        found = []
        for topic, number, key, first, written in rows:
            partition = Partition(topic, number)
            latest[partition] = max(written or 0, latest.get(partition, 0))
            found.append((latest[partition], Waiting(partition, _bytes(key), first)))
        return [each for _, each in sorted(found, key=lambda one: (one[0], one[1].partition, one[1].first))]

    def behind(self, place: RecordPlace) -> Waiting | None:
        """Return the records among which a parked one is; None if it is not parked."""
        found = self._connection.execute(self._sql(_KEY), (self._pipeline, *place.partition, place.offset)).fetchone()
        key = None if found is None else _bytes(found[0])
        for each in self.waiting() if found is not None else ():
            if (each.partition, each.key) == (place.partition, key) and (key is not None or each.first == place.offset):
                return each
        return None

    def replay(self, waiting: Waiting) -> Replayed:
        """Apply parked records. Raises PycdcError where the database cannot be asked."""
        return self._all_of(waiting, None)

    def resolve(self, number: int, side: str) -> Replayed | None:
        """Decide a conflict after all: `incoming` writes what the event said, `existing` what the row was, or stays.

        A parked one is taken out of the parked events, and its followers are replayed; None for one that was decided
        before. Raises ApplyError, ConfigError.
        """
        found = self.archive.conflict(number)
        if found is None:
            raise ApplyError(f"there is no conflict {number}", hint="`pycdc conflicts list` shows those that there are")
        if found["resolved_at"] is not None:
            raise ApplyError(
                f"conflict {number} was resolved before", hint=f"`pycdc conflicts show … {number}` tells how"
            )
        place = RecordPlace(Partition(found["topic"], found["partition"]), found["offset"])
        head = next((each for each in self.waiting() if (each.partition, each.first) == place), None)
        if head is not None:
            done = self._all_of(head, _Resolution(found["table"], side))
            if side == "existing" and done.applied:
                self._write_as_application(found, touch)
            return done
        rules = self._ready()
        if side == "existing":
            self._write_as_application(found, keep_image)
        with self._guarded():
            self._apply_offsets.sign(self._connection, origin=rules.origin is not None)
            if side == "incoming":
                write_image(self._connection, self._table_of(found), found, side)
            self.archive.resolved(side, number=number)
        return None

    def _table_of(self, found: Mapping[str, Any]) -> TargetTable:
        table = next((table for table in self._ready().tables.values() if str(table) == found["table"]), None)
        if table is None:
            raise ApplyError(f"no route writes table {found['table']} any more", hint="put its row right by hand")
        return table

    def _write_as_application(self, found: Mapping[str, Any], write: Callable[..., None]) -> None:
        """Write the row that this side keeps without mark and origin: a capture then sends it to the other side."""
        table = self._table_of(found)
        connection = connect_to_write(self._settings)
        try:
            write(connection, table, found)
            connection.commit()
        except psycopg.Error as error:
            raise target_error(error) from None
        finally:
            connection.close()
        with self._guarded():
            # The pipeline's own again, so that what follows does not conflict with it.
            self._apply_offsets.sign(self._connection, origin=self._ready().origin is not None)
            touch(self._connection, table, found)

    def _all_of(self, waiting: Waiting, resolution: _Resolution | None) -> Replayed:
        """Apply all records that wait with the first; `resolution` is about that."""
        rules, done = self._ready(), 0
        place = (self._pipeline, *waiting.partition)
        of_key = (*place, waiting.key, waiting.key, waiting.first)
        while True:
            with self._guarded():
                self._connection.execute(self._sql(_LOCK), place)
                row = self._connection.execute(self._sql(_FIRST), of_key).fetchone()
                if row is None:
                    return Replayed(waiting, done, 0)
                event = self._event(waiting.partition, row)
                # A mark holds for a transaction, and each event came its own way.
                change_origin = read_headers(event.headers)
                self._apply_offsets.sign(self._connection, change_origin, origin=rules.origin is not None)
                reason = self._sagas.problem(event) or self._apply(rules, event, resolution)
                if reason is not None:
                    left = self._connection.execute(self._sql(_COUNT), of_key).fetchone()
                    return Replayed(waiting, done, left[0] if left else 0, reason)
                self._sagas.track(self._connection, [event])
                self._connection.execute(self._sql(_DELETE), (*place, event.offset))
                said = resolution.side if resolution is not None else "replayed"
                self.archive.resolved(said, place=RecordPlace(waiting.partition, event.offset))
            done, resolution = done + 1, None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Run the block in a transaction, which is rolled back with an error."""
        try:
            yield
            self._connection.commit()
        except psycopg.Error as error:
            self._connection.rollback()
            raise target_error(error) from None
        except BaseException:
            self._connection.rollback()
            raise

    def _apply(self, rules: _Rules, event: Event, resolution: _Resolution | None) -> str | None:
        """Why it cannot be applied, None if it was."""
        conflicts = rules.conflicts
        try:
            emptied = rules.router.truncated(event) if event.truncates else []
            writes = [] if event.problem else rules.router.writes(event)
            given_up: list[RowWrite] = []
            if resolution is not None and resolution.side == "existing":
                given_up = [write for write in writes if str(write.shape.table) == resolution.table]
                writes = [write for write in writes if str(write.shape.table) != resolution.table]
            elif resolution is not None:
                conflicts = self._overruling(rules)
            with self._connection.transaction():
                self._connection.execute(b"SET CONSTRAINTS ALL DEFERRED")
                for table in emptied:
                    name = sql.Identifier(table.schema, table.name)
                    self._connection.execute(sql.SQL("DELETE FROM {}").format(name))
                for write in given_up:
                    self._agree(write)
                for group in groups_of(conflicts.prepare(self._connection, writes, BatchCounters())):
                    conflicts.execute(self._connection, group, BatchCounters())
                # What waits for the commit is found here, where it is this event's fault and no other's.
                self._connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
        except Unwritable as error:
            return str(error)
        except WriteRejected as error:
            return error.detail
        except Exception as error:
            if fault(error, self._connection, lasting=True) is not FaultKind.ROW:
                raise
            return described(error)
        return None if event.truncates else event.problem

    def _agree(self, write: RowWrite) -> None:
        """Make the row the pipeline's own, as it is: it was looked at, so what follows does not conflict with it."""
        shape = shape_of(write.shape.table, "update", write.shape.key, must_exist=True)
        row = RowWrite(shape, write.key, (), (), write.event, write.first)
        self._connection.execute(statement(shape), parameters(shape, [row]))

    def _overruling(self, rules: _Rules) -> ConflictResolver:
        """Rules by which events win, and nothing is recorded: that was done before."""
        routes = [_won(route) for route in self._settings.routes]
        silent = self._settings.conflicts.model_copy(update={"record": False})
        settings = self._settings.model_copy(update={"routes": routes, "conflicts": silent})
        return set_up_conflicts(self._connection, settings, self._pipeline, rules.tables, rules.origin)

    def _event(self, partition: Partition, row: tuple[Any, ...]) -> Event:
        offset, timestamp, key, value, names, values = row
        headers = tuple((name, _bytes(item)) for name, item in zip(names, values, strict=True))
        return self._decode(partition, offset, timestamp, _bytes(key), _bytes(value), headers)

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(**self._names)


@dataclass(frozen=True, slots=True)
class _Resolution:
    """About the first of the records that wait."""

    table: str
    side: str


def _won(route: Route) -> Route:
    if route.conflict is None:
        return route
    rule = route.conflict.model_copy(update={"default": "apply_remote", "function": None})
    return route.model_copy(update={"conflict": rule})


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
