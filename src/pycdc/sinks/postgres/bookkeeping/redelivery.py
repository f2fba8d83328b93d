"""Changes that a capture sent twice, known by their position in its log: what adds up must not add them twice.

A capture delivers at least once: after a crash it sends again what lay behind its stored position, in the same order.
So of each partition and source the position of the last change is kept, in the transaction that applies it, and what
is not behind it is a repeat.

1. A position is `source.sequence`: the commit before the change's transaction, and the change's own LSN. It only grows
   within a partition. Changes of one WAL record share it, and are told apart by their keys.
2. A change from before that position which was committed after it is no repeat: its log is another one (a database
   that was restored, or moved). It cannot be told what was applied of it, so it is refused by name.
3. A null value behind a delete says nothing new, and is left out where positions are known.
4. Only tables that something is added to need this: whatever else is repeated ends where it ended before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, LiteralString, NamedTuple

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.model.event import Event, Partition
from pycdc.observability.logger import get_logger
from pycdc.sinks.postgres.target_tables import split_name

log = get_logger()

CREATE: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE IF NOT EXISTS {positions} (
    pipeline text,
    topic text,
    partition integer,
    source text,
    previous bigint NOT NULL,
    lsn bigint NOT NULL,
    committed_ms bigint NOT NULL,
    keys bytea[] NOT NULL,
    PRIMARY KEY (pipeline, topic, partition, source))""",
)
_READ: Final = """SELECT topic, partition, source, previous, lsn, committed_ms, keys FROM {positions}
WHERE pipeline = %s AND topic = ANY(%s)"""
_WRITE: Final = """INSERT INTO {positions} AS p (pipeline, topic, partition, source, previous, lsn, committed_ms, keys)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (pipeline, topic, partition, source) DO UPDATE
SET previous = excluded.previous, lsn = excluded.lsn, committed_ms = excluded.committed_ms, keys = excluded.keys"""
FORGET: Final = """DELETE FROM {positions} AS p USING unnest(%s::text[], %s::integer[]) AS u(topic, partition)
WHERE p.pipeline = %s AND p.topic = u.topic AND p.partition = u.partition"""
_CLOCK_MS: Final = 1000
"""By how much commits may be out of the order of their times."""


class ChangePosition(NamedTuple):
    """Where a change stands in the log of `source`; `key` tells changes of one WAL record apart."""

    source: str
    previous: int
    lsn: int
    committed_ms: int
    key: bytes

    @classmethod
    def of(cls, event: Event) -> ChangePosition | None:
        """Return an event's position; None where it has no envelope, or one of another kind of source."""
        source_block = event.source
        if not isinstance(source_block, dict) or event.op == "r":
            return None
        try:
            previous, lsn = json.loads(source_block["sequence"])
            source = json.dumps([str(source_block.get(name)) for name in ("name", "db")])
            key = blake2b(event.raw_key or event.raw_value or b"", digest_size=12).digest()
            return cls(source, int(previous or 0), int(lsn), int(source_block["ts_ms"]), key)
        except (KeyError, TypeError, ValueError):
            return None


class _Last(NamedTuple):
    previous: int
    lsn: int
    committed_ms: int
    keys: frozenset[bytes]


def adding(settings: PostgresSinkConfig) -> frozenset[str]:
    """Return the tables that something is added to, `schema.table`."""
    found = [
        route.table
        for route in settings.routes
        if route.operation == "delta" or (route.conflict is not None and "delta" in route.conflict.columns.values())
    ]
    return frozenset(".".join(split_name(table)) for table in found)


_Place = tuple[Partition, str]


class Redelivery:
    """Recognizes changes that a capture sent twice.

    `pipeline` and `schema` name the rows of a pipeline.
    """

    def __init__(self, pipeline: str, schema: str) -> None:
        self._pipeline = pipeline
        self._names: Mapping[str, sql.Identifier] = {"positions": sql.Identifier(schema, "positions")}
        self._warned: set[str] = set()

    def repeated(self, connection: Connection, events: list[Event]) -> tuple[set[int], dict[int, str]]:
        """Return which of `events` were applied before, by their places, and why that is unknown of others.

        All are of tables that something is added to. The positions of the rest are stored.
        """
        if not events:
            return set(), {}
        last = self._read(connection, {event.partition.topic for event in events})
        known = {partition for partition, _ in last}
        repeated, strange, moved = set[int](), dict[int, str](), set[_Place]()
        for index, event in enumerate(events):
            position = None if event.raw_value is None else ChangePosition.of(event)
            if position is None:
                if event.raw_value is None and event.partition in known:
                    repeated.add(index)
                elif event.raw_value is not None and event.op != "r":
                    self._warn(event)
                continue
            place = event.partition, position.source
            known.add(event.partition)
            before = last.get(place)
            judgement = "new" if before is None else _judge(before, position)
            if judgement == "new":
                same = before is not None and (before.previous, before.lsn) == (position.previous, position.lsn)
                keys = before.keys if same and before is not None else frozenset()
                last[place] = _Last(position.previous, position.lsn, position.committed_ms, keys | {position.key})
                moved.add(place)
            elif judgement == "repeated":
                repeated.add(index)
            else:
                strange[index] = judgement
        self._write(connection, moved, last)
        return repeated, strange

    def _read(self, connection: Connection, topics: Collection[str]) -> dict[_Place, _Last]:
        rows = connection.execute(sql.SQL(_READ).format(**self._names), (self._pipeline, sorted(topics))).fetchall()
        return {
            (Partition(topic, number), source): _Last(previous, lsn, ms, frozenset(map(bytes, keys)))
            for topic, number, source, previous, lsn, ms, keys in rows
        }

    def _write(self, connection: Connection, places: Iterable[_Place], last: Mapping[_Place, _Last]) -> None:
        rows: list[tuple[Any, ...]] = [
            (self._pipeline, *partition, source, *last[partition, source][:3], sorted(last[partition, source].keys))
            for partition, source in sorted(places)
        ]
        if rows:
            connection.cursor().executemany(sql.SQL(_WRITE).format(**self._names), rows)

    def _warn(self, event: Event) -> None:
        topic = event.partition.topic
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning(
                "events that add up do not tell their position: what their producer repeats is added again",
                topic=topic,
                remedy="capture with source.sequence in the envelope, or give events an id and set sink.postgres.inbox",
            )


def _judge(last: _Last, position: ChangePosition) -> str:
    """Return ``new``, ``repeated``, or why that is not known."""
    here, there = (position.previous, position.lsn), (last.previous, last.lsn)
    if here > there or (not position.previous and position.lsn > max(there)):
        return "new"
    if here == there:
        return "repeated" if position.key in last.keys else "new"
    if position.committed_ms > last.committed_ms + _CLOCK_MS:
        return (
            "its position in the source's log lies before what was applied, and its commit behind: that log is another "
            "one, so it cannot be told what of it was added (the partition's row in the table positions says)"
        )
    return "repeated"
