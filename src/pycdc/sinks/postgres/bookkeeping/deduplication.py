"""Events that a producer sent twice, known by an id of their own: the inbox, a table beside the data.

Invariants:

1. An id is stored by the transaction that applies its event, or parks it; an event that waits has none there.
2. Ids are kept for the time that the configuration says, and no memory is needed of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, LiteralString

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import InboxConfig
from pycdc.model.event import Event, Unwritable
from pycdc.rows.column_presence import ColumnPresence, holds_field
from pycdc.sinks.postgres.routing.field_paths import identity_of, look_up

CREATE: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE IF NOT EXISTS {inbox} (
    pipeline text,
    id text,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, id))""",
    "CREATE INDEX IF NOT EXISTS inbox_seen_at ON {inbox} (pipeline, seen_at)",
)
_TAKE: Final = """INSERT INTO {inbox} (pipeline, id)
SELECT %s, u.id FROM unnest(%s::text[]) AS u(id) GROUP BY u.id ORDER BY u.id
ON CONFLICT (pipeline, id) DO NOTHING RETURNING id"""
_EXPIRE: Final = """DELETE FROM {inbox} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {inbox} WHERE pipeline = %s AND seen_at < now() - %s * '1 second'::interval
    ORDER BY seen_at LIMIT %s FOR UPDATE SKIP LOCKED))"""
_LEAST: Final = 100
"""Expired ids that a transaction deletes, at least; else twice as many as it stores, so that the table never grows."""


class Inbox:
    def __init__(self, settings: InboxConfig, pipeline: str, schema: str, presence: ColumnPresence) -> None:
        self._look = look_up(settings.id)
        self._path = settings.id
        self._presence = presence
        self._seconds = settings.seconds
        self._pipeline = pipeline
        self._names: Mapping[str, sql.Identifier] = {"inbox": sql.Identifier(schema, "inbox")}

    def id_of(self, event: Event) -> str | None:
        """Return the event's id. Raises Unwritable where it is in a key that cannot be read."""
        if event.deleted:
            self._presence.settle(event)
            if holds_field(event, self._path) is None:
                return None
        return identity_of(self._look(event, event.before if event.deleted else event.row))

    def problem(self, event: Event) -> str | None:
        """Why the event cannot be told from another. A null value has no fields, and deleting twice does no harm."""
        try:
            if self.id_of(event) is not None or event.raw_value is None:
                return None
        except Unwritable as error:
            return str(error)
        return f"the event has no id at {self._path}, which sink.postgres.inbox needs"

    def repeated(self, connection: Connection, events: list[Event]) -> set[int]:
        """Store the events' ids; return the places of those that were there before, or earlier among `events`."""
        ids = [self.id_of(event) for event in events]
        known = [one for one in ids if one is not None]
        if not known:
            return set()
        new = {row[0] for row in connection.execute(self._sql(_TAKE), (self._pipeline, known))}
        connection.execute(self._sql(_EXPIRE), (self._pipeline, self._seconds, max(_LEAST, 2 * len(known))))
        out = set()
        for place, one in enumerate(ids):
            if one is not None and one not in new:
                out.add(place)
            elif one is not None:
                new.discard(one)
        return out

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(**self._names)
