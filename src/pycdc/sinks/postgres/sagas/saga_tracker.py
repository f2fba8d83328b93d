"""Follow sagas: their events change their rows in the transaction that moves the offsets.

Invariants:

1. A saga's row holds each type of event that came, once, with the first record that brought it.
2. Its state is that of these types (`saga_state`), and the totals count each saga once, in its state.
3. Rows are locked in the order of their ids, and the totals behind them: processes of one pipeline wait for each other,
   and see what the other one brought.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.config.sagas import SagaConfig
from pycdc.model.event import Event, Unwritable
from pycdc.model.patterns import names_any
from pycdc.sinks.postgres.routing.field_paths import identity_of, look_up
from pycdc.sinks.postgres.sagas.saga_state import state_of
from pycdc.sinks.postgres.sagas.saga_tables import COUNT

_MERGE: Final = """INSERT INTO {sagas} AS s (pipeline, saga, id, seen)
SELECT %s, u.saga, u.id, u.seen FROM unnest(%s::text[], %s::text[], %s::jsonb[]) AS u(saga, id, seen)
ORDER BY u.saga, u.id
ON CONFLICT (pipeline, saga, id) DO UPDATE SET seen = excluded.seen || s.seen
RETURNING s.saga, s.id, s.state, s.seen"""
"""Of a type that came before, what is there stays. A new row has no state yet."""
_SETTLE: Final = """UPDATE {sagas} AS s
SET state = u.state, started_at = u.started_at, deadline = u.deadline, changed_at = now()
FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
    AS u(saga, id, state, started_at, deadline)
WHERE s.pipeline = %s AND s.saga = u.saga AND s.id = u.id"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS: Final = 221_845_392_000_000
"""The year 9000: records with a later time, or none, count as of now."""


class SagaEvent(NamedTuple):
    """An event of a saga. `seen` is what is kept of it."""

    saga: str
    id: str
    type: str
    seen: Mapping[str, Any]


class SagaTracker:
    """Follows the sagas of a pipeline."""

    def __init__(self, settings: PostgresSinkConfig, pipeline: str) -> None:
        self._sagas = {name: _Followed(name, saga) for name, saga in settings.sagas.items()}
        self._pipeline = pipeline
        self._names = {name: sql.Identifier(settings.bookkeeping, name) for name in ("sagas", "saga_totals")}
        self._by_topic: dict[str, list[_Followed]] = {}

    def problem(self, event: Event) -> str | None:
        """Why an event of a saga cannot be counted for it."""
        try:
            self._events(event)
        except Unwritable as error:
            return str(error)
        return None

    def track(self, connection: Connection, events: Iterable[Event]) -> None:
        """Count events for their sagas, within the transaction that applies them. Those of no saga are left out."""
        found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
        for event in events:
            for one in self._events(event):
                found.setdefault((one.saga, one.id), {}).setdefault(one.type, one.seen)
        if not found:
            return
        columns = [saga for saga, _ in found], [number for _, number in found], [*map(json.dumps, found.values())]
        rows = connection.execute(self._sql(_MERGE), (self._pipeline, *columns)).fetchall()
        self._settle(connection, rows)

    def _settle(self, connection: Connection, rows: Sequence[tuple[str, str, str, dict[str, Any]]]) -> None:
        """Store the states that follow from what was seen, and count them."""
        moved: Counter[tuple[str, str]] = Counter()
        settled: list[tuple[Any, ...]] = []
        for name, number, before, seen in rows:
            saga = self._sagas[name].saga
            state = state_of(saga, seen)
            if before != state:
                moved[name, state.value] += 1
                moved[name, before] -= 1 if before else 0
            started = _EPOCH + timedelta(milliseconds=_start_of(saga, seen))
            deadline = None if saga.time_limit is None else started + timedelta(seconds=saga.time_limit)
            settled.append((name, number, state.value, started, deadline))
        connection.execute(self._sql(_SETTLE), (*map(list, zip(*settled, strict=True)), self._pipeline))
        changed = [(saga, state, count) for (saga, state), count in moved.items() if count]
        if changed:
            connection.execute(self._sql(COUNT), (self._pipeline, *map(list, zip(*changed, strict=True))))

    def _events(self, event: Event) -> list[SagaEvent]:
        """Return what an event is to the sagas. Raises Unwritable where one cannot tell which saga it is of."""
        topic = event.partition.topic
        followed = self._by_topic.get(topic)
        if followed is None:
            followed = [one for one in self._sagas.values() if names_any(one.saga.topics, topic)]
            self._by_topic[topic] = followed
        return [found for one in followed if (found := one.event(event)) is not None]

    def _sql(self, text: Any) -> sql.Composed:
        return sql.SQL(text).format(**self._names)


class _Followed:
    """A saga of the configuration, and how its events are read."""

    def __init__(self, name: str, saga: SagaConfig) -> None:
        self.name, self.saga = name, saga
        self._types = frozenset(saga.types)
        self._type, self._id = look_up(saga.type), look_up(saga.id)
        self._event_id = look_up("$headers.id")

    def event(self, event: Event) -> SagaEvent | None:
        row = event.before if event.row is None else event.row
        kind = self._type(event, row)
        if not isinstance(kind, str) or kind not in self._types:
            return None
        number = identity_of(self._id(event, row))
        if number is None:
            raise Unwritable(f"an event {kind} of saga {self.name} has no id at {self.saga.id}")
        seen: dict[str, Any] = {"at": _milliseconds(event), "record": f"{event.partition}@{event.offset}"}
        own = identity_of(self._event_id(event, row))
        return SagaEvent(self.name, number, kind, seen if own is None else {**seen, "event": own})


def _milliseconds(event: Event) -> int:
    return event.timestamp if 0 < event.timestamp <= _LATEST_MS else int(time.time() * 1000)


def _start_of(saga: SagaConfig, seen: Mapping[str, Mapping[str, Any]]) -> int:
    """Return when a saga began: with its start, as long as that is not there with its earliest event."""
    begun = seen.get(saga.start)
    return int(begun["at"] if begun is not None else min(one["at"] for one in seen.values()))
