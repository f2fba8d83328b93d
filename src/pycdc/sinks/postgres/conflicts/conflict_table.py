"""The table of conflicts, written in the transaction that settles them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, LiteralString

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import ConflictsConfig
from pycdc.sinks.postgres.conflicts.conflict import ResolvedConflict

TABLES: Final = ("conflicts", "conflict_watch")
CREATE: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE IF NOT EXISTS {conflicts} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    "table" text NOT NULL,
    key jsonb NOT NULL,
    kind text NOT NULL,
    decision text NOT NULL,
    current jsonb,
    incoming jsonb,
    before jsonb,
    current_origin text,
    current_committed_at timestamptz,
    event_time timestamptz NOT NULL,
    detected_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    resolution text)""",
    """CREATE TABLE IF NOT EXISTS {conflict_watch} (
    pipeline text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now())""",
)
"""`conflict_watch` has the time since when what others write is a conflict."""
_WATCH: Final = "INSERT INTO {conflict_watch} (pipeline) VALUES (%s) ON CONFLICT DO NOTHING"
_SINCE: Final = "SELECT since FROM {conflict_watch} WHERE pipeline = %s"
_RECORD: Final = """INSERT INTO {conflicts} (pipeline, topic, partition, "offset", "table", key, kind, decision,
    current, incoming, before, current_origin, current_committed_at, event_time)
SELECT %s, u.topic, u.partition, u."offset", u."table", u.key::jsonb, u.kind, u.decision,
    u.current::jsonb, u.incoming::jsonb, u.before::jsonb, u.origin, u.committed_at, u.event_time
FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[]) AS u(topic, partition, "offset", "table",
    key, kind, decision, current, incoming, before, origin, committed_at, event_time)"""


class ConflictTable:
    """Records the conflicts of one sink. Nothing is written where `record` is off."""

    def __init__(self, pipeline: str, schema: str, settings: ConflictsConfig) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._names = {name: sql.Identifier(schema, name) for name in TABLES}

    def since(self, connection: Connection) -> datetime:
        """Return since when what others write is a conflict. The first call of a pipeline's life sets it to now."""
        if self._settings.since is not None:
            return self._settings.since
        connection.execute(self._sql(_WATCH), (self._pipeline,))
        row = connection.execute(self._sql(_SINCE), (self._pipeline,)).fetchone()
        connection.commit()
        assert row is not None
        since: datetime = row[0]
        return since

    def record(self, connection: Connection, found: Sequence[ResolvedConflict]) -> None:
        if self._settings.record and found:
            columns = [list(column) for column in zip(*map(self._row, found), strict=True)]
            connection.execute(self._sql(_RECORD), (self._pipeline, *columns))

    def _row(self, resolved: ResolvedConflict) -> tuple[Any, ...]:
        conflict, event, decision = resolved.conflict, resolved.event, resolved.decision
        images = (conflict.current, conflict.incoming, conflict.before) if self._settings.values else (None, None, None)
        place = (event.partition.topic, event.partition.number, event.offset)
        what = (conflict.table, as_json(conflict.key), conflict.kind.value, decision.value)
        return (*place, *what, *map(as_json, images), conflict.origin, conflict.current_time, conflict.event_time)

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(**self._names)


def as_json(value: Any) -> str | None:
    """Return a value as JSON, None for NULL. Numbers keep their digits."""
    return None if value is None else _json(value)


def _json(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(name))}: {_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)
