"""When the events were written that rows come from, and that removed rows: what `last_write_wins` compares.

The commit of a row's last writer tells when an application wrote it. Of a row that a pipeline wrote it tells when an
event arrived, and of one that is gone there is nothing left. So a table beside the data holds both.

Invariants:

1. Whoever writes a row moves its time first, which locks it: pipelines that write one table go one after another, also
   where there is no row.
2. A time belongs to the version of the row that its transaction wrote, which xmin tells. Somebody else's version has
   the time of its commit.
3. Events of one partition come in its order, whatever their times say: clocks step back, and a delete and an insert of
   one transaction have one time. What one pipeline brings from several places writes the same row; only deletes are
   compared with that.
4. Times are kept as long as the configuration says, and the table is swept a part at a time: no index is needed, and
   updates of it stay within their page.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, LiteralString

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.rows.text_values import array_of
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.writing.identifiers import ParameterSafeLiteral
from pycdc.sinks.postgres.writing.statements import key_hash, unnested
from pycdc.sinks.postgres.writing.writes import RowWrite, Shape, WriteGroup

TABLE: Final = "write_times"
CREATE: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE IF NOT EXISTS {write_times} (
    "table" text,
    key bigint,
    written_at timestamptz NOT NULL,
    removed boolean NOT NULL,
    pipeline text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    before_at timestamptz,
    before_xid xid,
    PRIMARY KEY ("table", key)) WITH (fillfactor = 70)""",
)
"""`key` is a hash of the key's values, equal where they are. `before_at` and `before_xid` are of the time that was
replaced: the row is still of that transaction when it is compared."""
_CLAIM: Final = """INSERT INTO {times} AS w ("table", key, written_at, removed, pipeline, topic, partition)
SELECT {name}, {key}, u.t::timestamptz, {removed}, {pipeline}, u.topic, u.p::integer FROM {rows} ORDER BY 2
ON CONFLICT ("table", key) DO UPDATE SET written_at = excluded.written_at, removed = excluded.removed,
    pipeline = excluded.pipeline, topic = excluded.topic, partition = excluded.partition, applied_at = now(),
    before_at = w.written_at, before_xid = w.xmin"""
_CLAIM_IF: Final = "{claim} WHERE {passes}"
_PASSES: Final = """({written} > w.written_at + {skew} * '1 second'::interval
OR ({pipeline}, {topic}, {partition}) = (w.pipeline, w.topic, w.partition)
OR ({free} AND NOT w.removed AND w.pipeline = {pipeline}))"""
_LATER: Final = """SELECT u.n, w.written_at FROM {rows} JOIN {times} AS w ON w."table" = {name} AND w.key = {key}
WHERE NOT {passes}"""
_FORGET: Final = """DELETE FROM {times} AS w USING {rows} WHERE w."table" = {name} AND w.key = {key}"""
_PAGES: Final = "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::bigint"
_SWEEP: Final = """DELETE FROM {times} WHERE ctid >= %s::tid AND ctid < %s::tid
AND applied_at < now() - %s * '1 second'::interval"""
_ROUND: Final = 600.0
"""Seconds in which all of the table is swept once, in portions."""
_PAUSE: Final = 10.0
_BESIDE: Final = ("t", "topic", "p")


def remembered(settings: PostgresSinkConfig) -> bool:
    """Return whether any table needs times."""
    return any(route.conflict is not None and route.conflict.default == "last_write_wins" for route in settings.routes)


class WriteTimes:
    """Remembers times for one sink."""

    def __init__(self, pipeline: str, schema: str, seconds: int) -> None:
        self._pipeline = pipeline
        self._schema = schema
        self.table = sql.Identifier(schema, TABLE)
        self._seconds = seconds
        self._swept_at = time.monotonic()
        self._place = 0.0
        self.needed = False

    def claim(self, connection: Connection, policy: Policy, group: WriteGroup) -> Mapping[int, Any]:
        """Move the times of `group`'s rows to its events'. Raises Unwritable where an event has no time.

        Returns the times that are later, or as late, by the places of their writes. These are left as they are, and
        locked until the transaction ends.
        """
        rows = self._parameters(policy, group.writes)
        claimed = connection.execute(self._statement(policy, group.shape, _CLAIM_IF), rows, prepare=True)
        if claimed.rowcount == len(group.writes):
            return {}
        later = connection.execute(self._statement(policy, group.shape, _LATER), rows)
        return {number - 1: written for number, written in later}

    def force(self, connection: Connection, policy: Policy, writes: list[RowWrite]) -> None:
        """Move them whatever they are."""
        connection.execute(self._statement(policy, writes[0].shape, _CLAIM), self._parameters(policy, writes))

    def forget(self, connection: Connection, policy: Policy, writes: list[RowWrite]) -> None:
        """Forget what was claimed for events that did not become their rows."""
        rows = self._parameters(policy, writes)
        connection.execute(self._statement(policy, writes[0].shape, _FORGET), rows)

    def sweep(self, connection: Connection) -> bool:
        """Delete, in a transaction of its own, times that are older than they have to be. Returns whether one was due.

        Each call looks at the part of the table that follows the one before.
        """
        now = time.monotonic()
        if not self.needed or now - self._swept_at < _PAUSE:
            return False
        row = connection.execute(_PAGES, (self.table.as_string(connection),)).fetchone()
        pages = 0 if row is None else int(row[0])
        end = min(1.0, self._place + (now - self._swept_at) / _ROUND)
        places = f"({int(self._place * pages)},0)", f"({int(end * pages) + (end == 1.0)},0)"
        connection.execute(sql.SQL(_SWEEP).format(times=self.table), (*places, self._seconds))
        connection.commit()
        self._swept_at, self._place = now, 0.0 if end == 1.0 else end
        return True

    def _parameters(self, policy: Policy, writes: list[RowWrite]) -> list[str]:
        columns = [array_of(column) for column in zip(*(write.key for write in writes), strict=True)]
        events = [write.event for write in writes]
        columns.append(array_of([policy.written_at(event).isoformat() for event in events]))
        columns.append(array_of([event.partition.topic for event in events]))
        columns.append(array_of([str(event.partition.number) for event in events]))
        return columns

    def _statement(self, policy: Policy, shape: Shape, text: LiteralString) -> bytes:
        return _statement(self._schema, self._pipeline, policy.rule.skew, shape, text)


@lru_cache(maxsize=1024)
def _statement(schema: str, pipeline: str, skew: float, shape: Shape, text: LiteralString) -> bytes:
    """Return the statement, the same object for the same shape, so that the driver prepares it once."""
    removes = shape.operation == "delete" or shape.moves
    columns = [shape.table.columns[name] for name in shape.key]
    names: dict[str, sql.Composable] = {
        "times": sql.Identifier(schema, TABLE),
        "name": name_of(shape),
        "key": key_hash(shape),
        "removed": sql.SQL("true" if removes else "false"),
        "pipeline": ParameterSafeLiteral(pipeline),
        "skew": sql.SQL(repr(skew)),
        "free": sql.SQL("false" if removes else "true"),
    }
    if text is _LATER:
        incoming = {"written": "u.t::timestamptz", "topic": "u.topic", "partition": "u.p::integer"}
    else:
        incoming = {"written": "excluded.written_at", "topic": "excluded.topic", "partition": "excluded.partition"}
    passes = sql.SQL(_PASSES).format(**names, **{name: sql.SQL(place) for name, place in incoming.items()})
    names |= {"rows": unnested(columns, _BESIDE, counted=text is _LATER), "passes": passes}
    if text is _CLAIM_IF:
        names["claim"] = sql.SQL(_CLAIM).format(**names)
    return sql.SQL(text).format(**names).as_string(None).encode()


def name_of(shape: Shape) -> sql.Composable:
    """Return a name for a table and the columns that identify its rows."""
    return ParameterSafeLiteral(f"{shape.table} ({', '.join(shape.key)})")
