"""The rows that conflict, as they are now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.rows.text_values import array_of
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.conflicts.write_times import name_of
from pycdc.sinks.postgres.writing.conflict_guards import as_before
from pycdc.sinks.postgres.writing.statements import key_hash, key_texts, same_key, unnested
from pycdc.sinks.postgres.writing.writes import RowWrite, Shape


@dataclass(frozen=True, slots=True)
class LockedRow:
    """A write and the row that it is about, locked; `current` is None where there is none.

    `key` is as the row's columns print it. `ours`: the last writer is this pipeline, or unknown, or wrote so early that
    it does not count. `agrees`: the row is the event's `before` in all columns that the write sets. `written_at`: when
    the event was written that the row comes from, where that is remembered.
    """

    write: RowWrite
    key: tuple[str, ...] | None
    current: dict[str, Any] | None
    incoming: dict[str, Any] | None
    before: dict[str, Any] | None
    origin: str | None
    committed_at: datetime | None
    ours: bool
    agrees: bool
    matches_before: bool
    written_at: datetime | None = None


_LOCK: Final = "SELECT 1 FROM {rows} JOIN {table} AS {t} ON {same_key} ORDER BY u.n FOR UPDATE OF {t}"
_READ: Final = """SELECT to_jsonb({t})::text, {writer},
CASE WHEN {t}.xmin IS NULL THEN u.i::jsonb ELSE to_jsonb(jsonb_populate_record({t}, u.i::jsonb)) END::text,
CASE WHEN {t}.xmin IS NULL THEN u.g::jsonb ELSE to_jsonb(jsonb_populate_record({t}, u.g::jsonb)) END::text,
coalesce({as_before} AND {t}.xmin IS NOT NULL, false), {remembered}, {keys}
FROM {rows} LEFT JOIN {table} AS {t} ON {same_key}{joined} ORDER BY u.n"""
_WRITER: Final = """o.timestamp, CASE o.roident WHEN 0 THEN '' ELSE coalesce(r.roname, o.roident::text) END,
coalesce(starts_with(r.roname, %s::text) OR o.timestamp < %s::timestamptz, o.roident IS NULL)"""
_NO_WRITER: Final = "NULL::timestamptz, NULL::text, %s::text IS NULL AND %s::timestamptz IS NULL"
_JOINED: Final = """
LEFT JOIN LATERAL pg_catalog.pg_xact_commit_timestamp_origin({t}.xmin) AS o ON {t}.xmin IS NOT NULL
LEFT JOIN pg_catalog.pg_replication_origin AS r ON r.roident = o.roident"""
_REMEMBERED: Final = """(SELECT w.before_at FROM {times} AS w
WHERE w."table" = {name} AND w.key = {key} AND w.before_xid = {t}.xmin)"""


def read_locked(
    connection: Connection, policy: Policy, writes: list[RowWrite], writer: tuple[Any, Any], times: sql.Identifier
) -> list[LockedRow]:
    """Lock the rows of `writes`, which share a shape, and read them.

    `writer` are the parameters of an origin's guard, `times` is the table of remembered times. There are two
    statements: the second one's snapshot is taken when all locks are held, so it sees what they waited for.
    """
    shape = writes[0].shape
    keys = [array_of(column) for column in zip(*(write.key for write in writes), strict=True)]
    connection.execute(_lock(shape).as_string(None).encode(), keys)
    old = [policy.before(write.first) for write in writes]
    new = [_assigned(write) for write in writes]
    documents = [array_of([policy.as_json(values) for values in each]) for each in (new, old)]
    query = _read(shape, times if policy.remembers else None, by_origin=policy.by_origin).as_string(None).encode()
    found = connection.execute(query, (*writer, *keys, *documents)).fetchall()
    return [_found(*each) for each in zip(writes, new, old, found, strict=True)]


def _assigned(write: RowWrite) -> dict[str, str | None]:
    return dict(zip(write.shape.set, write.set, strict=True))


def _lock(shape: Shape) -> sql.Composed:
    columns = [shape.table.columns[name] for name in shape.key]
    return sql.SQL(_LOCK).format(
        rows=unnested(columns, counted=True),
        table=shape.table.identifier,
        t=shape.table.alias,
        same_key=same_key(shape),
    )


def _read(shape: Shape, times: sql.Identifier | None, *, by_origin: bool) -> sql.Composed:
    columns = [shape.table.columns[name] for name in shape.key]
    remembered: sql.Composable = sql.SQL("NULL::timestamptz")
    if times is not None:
        names = {"times": times, "name": name_of(shape), "key": key_hash(shape), "t": shape.table.alias}
        remembered = sql.SQL(_REMEMBERED).format(**names)
    return sql.SQL(_READ).format(
        keys=key_texts(shape),
        as_before=as_before(shape.table),
        remembered=remembered,
        writer=sql.SQL(_WRITER if by_origin else _NO_WRITER),
        rows=unnested(columns, ("i", "g"), counted=True),
        table=shape.table.identifier,
        t=shape.table.alias,
        same_key=same_key(shape),
        joined=sql.SQL(_JOINED if by_origin else "").format(t=shape.table.alias),
    )


def _found(write: RowWrite, new: dict[str, str | None], old: dict[str, str | None], row: tuple[Any, ...]) -> LockedRow:
    current, committed_at, origin, ours, incoming, before, agrees, written_at, *key = row
    values = new.keys() if new else old.keys() - set(write.shape.key)
    return LockedRow(
        write,
        tuple(key) if current is not None else None,
        None if current is None else document(current),
        None if write.shape.operation == "delete" else _only(incoming, new),
        _only(before, old) if old else None,
        origin,
        committed_at,
        bool(ours),
        bool(agrees),
        bool(agrees and values and values <= old.keys()),
        written_at,
    )


def _only(text: str, names: dict[str, str | None]) -> dict[str, Any]:
    return {name: value for name, value in document(text).items() if name in names}


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < 1000 else Decimal(digits)


def document(text: str) -> dict[str, Any]:
    # Python makes no int of more than 4,300 digits, and numeric has more.
    made: dict[str, Any] = json.loads(text, parse_float=Decimal, parse_int=_whole)
    return made
