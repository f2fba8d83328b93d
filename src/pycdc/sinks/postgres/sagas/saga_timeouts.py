"""Time limits of sagas: a command for each that is over, once, and what the metrics show.

The transaction that notes a time limit as over writes the command. It has neither the pipeline's mark nor its origin,
so that a capture of this database takes the command for an application's.

A time limit is over only where all events up to it were read: a pipeline that is behind may have the end of the saga
still before it.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import target_error
from pycdc.clients.postgres_sessions import connect_to_target
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.config.sagas import SagaCommandConfig, SagaConfig
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.sinks.postgres.sagas.saga_state import ENDED, OPEN
from pycdc.sinks.postgres.sagas.saga_tables import COUNT, TIMED_OUT
from pycdc.sinks.postgres.target_tables import split_name

log = get_logger()

_EACH: Final = 1.0
"""Seconds between two looks."""
_SWEEP: Final = 60.0
"""Seconds between two looks for sagas that need not be kept."""
_MOST: Final = 500
"""Sagas that one transaction takes."""
_LATE: Final = """WITH late AS (
    SELECT id FROM {sagas} WHERE pipeline = %s AND saga = %s AND state = ANY(%s) AND timed_out_at IS NULL
        AND deadline < now() - %s * '1 second'::interval
    ORDER BY deadline LIMIT %s FOR UPDATE SKIP LOCKED)
UPDATE {sagas} AS s SET timed_out_at = now() FROM late
WHERE s.pipeline = %s AND s.saga = %s AND s.id = late.id
RETURNING s.id, s.state, s.seen, s.started_at, s.deadline"""
_EMIT: Final = "SELECT pg_logical_emit_message(true, %s, %s)"
_INSERT: Final = """INSERT INTO {table} (id, aggregatetype, aggregateid, type, correlation_id, payload)
VALUES (%s, %s, %s, %s, %s, %s)"""
_EXPIRE: Final = """DELETE FROM {sagas} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {sagas} WHERE pipeline = %s AND saga = %s AND state = ANY(%s)
        AND changed_at < now() - %s * '1 second'::interval LIMIT %s FOR UPDATE SKIP LOCKED))"""
_TOTALS: Final = "SELECT saga, state, count FROM {saga_totals} WHERE pipeline = %s"
_STUCK: Final = """SELECT saga, count(*) FROM {sagas} WHERE pipeline = %s AND state = ANY(%s) AND deadline < now()
GROUP BY saga"""
_COMMANDS: Final = uuid.UUID("6d0ee6a4-9a0c-4a8f-8f0c-2b8b5f1d3c57")
"""Namespace of the commands' ids."""


class SagaTimeouts:
    """Looks after the sagas of a pipeline, on a connection of its own."""

    def __init__(
        self,
        settings: PostgresSinkConfig,
        pipeline: str,
        progress: Progress,
        stopping: threading.Event | None = None,
    ) -> None:
        self._sagas = settings.sagas
        self._pipeline = pipeline
        self._progress = progress
        self._names = {name: sql.Identifier(settings.bookkeeping, name) for name in ("sagas", "saga_totals")}
        self._connection = connect_to_target(settings.dsn.get_secret_value(), 30.0, stopping=stopping)
        self._next = self._next_sweep = 0.0

    def look(self) -> None:
        """Send what is due, at most once a second. Raises PycdcError."""
        now = time.monotonic()
        if now < self._next:
            return
        try:
            behind = self._progress.unread_seconds()
            for name, saga in self._sagas.items():
                timed = behind is not None and saga.time_limit is not None
                while timed and self._time_out(name, saga, behind or 0.0) == _MOST:
                    pass
            if now >= self._next_sweep:
                for name, saga in self._sagas.items():
                    parameters = (self._pipeline, name, list(ENDED), saga.keep, 10 * _MOST)
                    self._connection.execute(self._sql(_EXPIRE), parameters)
                self._next_sweep = now + _SWEEP
            self._report()
            self._connection.commit()
        except psycopg.Error as error:
            raise target_error(error) from None
        self._next = time.monotonic() + _EACH

    def close(self) -> None:
        self._connection.close()

    def _time_out(self, name: str, saga: SagaConfig, behind: float) -> int:
        """Take sagas whose time limit is over, in a transaction; return how many."""
        which = (self._pipeline, name, list(OPEN), behind, _MOST, self._pipeline, name)
        late = self._connection.execute(self._sql(_LATE), which).fetchall()
        if late:
            for row in late if saga.on_timeout is not None else ():
                command(self._connection, saga.on_timeout, self._pipeline, name, *row)
            self._connection.execute(self._sql(COUNT), (self._pipeline, [name], [TIMED_OUT], [len(late)]))
        self._connection.commit()
        if late:
            log.warning("sagas exceeded their time limit", saga=name, count=len(late))
        return len(late)

    def _report(self) -> None:
        """Tell the metrics."""
        totals = self._connection.execute(self._sql(_TOTALS), (self._pipeline,)).fetchall()
        stuck = self._connection.execute(self._sql(_STUCK), (self._pipeline, list(OPEN))).fetchall()
        self._progress.sagas = {(saga, state): count for saga, state, count in totals}
        self._progress.stuck_sagas = {**dict.fromkeys(self._sagas, 0), **dict(stuck)}

    def _sql(self, text: Any) -> sql.Composed:
        return sql.SQL(text).format(**self._names)


def command(
    connection: Connection,
    how: SagaCommandConfig | None,
    pipeline: str,
    saga: str,
    number: str,
    state: str,
    seen: Mapping[str, Any],
    started_at: datetime,
    deadline: datetime,
) -> None:
    """Write the command of a saga whose time limit is over. Its id is the same whoever writes it."""
    assert how is not None
    own = str(uuid.uuid5(_COMMANDS, json.dumps([pipeline, saga, number, how.type])))
    payload = {
        "saga": saga,
        "id": number,
        "state": state,
        "seen": sorted(seen, key=lambda kind: int(seen[kind]["at"])),
        "started_at": started_at.isoformat(),
        "deadline": deadline.isoformat(),
    }
    if how.message is not None:
        event = {"id": own, "aggregatetype": how.aggregatetype, "aggregateid": number, "type": how.type}
        text = json.dumps({**event, "correlation_id": number, "payload": payload})
        connection.execute(_EMIT, (how.message, text))
    else:
        table = sql.Identifier(*split_name(how.table or ""))
        row = (own, how.aggregatetype, number, how.type, number, json.dumps(payload))
        connection.execute(sql.SQL(_INSERT).format(table=table), row)
