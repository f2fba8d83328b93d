"""What the sink would do with events, told instead of done: on a connection that may only read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_sessions import connected
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.model.event import Event
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets, ParkedKey
from pycdc.sinks.postgres.route_checks import read_tables
from pycdc.sinks.postgres.routing.router import Functions, RouteTable
from pycdc.sinks.postgres.writing.statements import parameters, statement
from pycdc.sinks.postgres.writing.writes import WriteGroup, groups_of


class PlannedStatement(NamedTuple):
    """`text` has ``$1``, ``$2`` … for `parameters`, which are array literals and hold the event's values."""

    table: str
    operation: str
    text: str
    parameters: tuple[str, ...]

    def literals(self) -> list[str]:
        """Return the parameters as psql takes them."""
        return [sql.Literal(value).as_string(None).strip() for value in self.parameters]


@dataclass(frozen=True, slots=True)
class Planned:
    """An event and its statements, or why there are none: a `problem`, or it `waits` for one of its key."""

    event: Event
    statements: tuple[PlannedStatement, ...] = ()
    problem: str | None = None
    waits: bool = False


class Preview:
    """Remembers which keys would be parked, so that their followers are told to wait."""

    def __init__(self, settings: PostgresSinkConfig, router: RouteTable, blocked: set[ParkedKey]) -> None:
        self._parks = settings.on_error == "park"
        self._router = router
        self._blocked = blocked

    def plan(self, event: Event) -> Planned:
        if event.identity in self._blocked:
            return Planned(event, waits=True)
        try:
            writes = [] if event.problem else self._router.writes(event)
        except Unwritable as error:
            return self._refused(event, str(error))
        if event.problem:
            return self._refused(event, event.problem)
        return Planned(event, tuple(_statement(group) for group in groups_of(writes) if group.shape.does_something))

    def _refused(self, event: Event, problem: str) -> Planned:
        if self._parks and event.identity is not None:
            self._blocked.add(event.identity)
        return Planned(event, problem=problem)


@contextmanager
def preview(settings: PostgresSinkConfig, pipeline: str, functions: Functions | None = None) -> Iterator[Preview]:
    """Open a preview. Raises PycdcError where the database does not answer or a route does not fit its table."""
    dsn = settings.dsn.get_secret_value()
    with connected(dsn) as connection:
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.commit()
        router = RouteTable(settings, read_tables(connection, settings.routes), functions=functions)
        blocked = _blocked(connection, ApplyOffsets(dsn, pipeline, settings.bookkeeping))
    yield Preview(settings, router, blocked)


def _blocked(connection: Connection, apply_offsets: ApplyOffsets) -> set[ParkedKey]:
    return set(apply_offsets.parked(connection)) if apply_offsets.tables_exist(connection) else set()


def _statement(group: WriteGroup) -> PlannedStatement:
    shape = group.shape
    numbers = iter(range(1, 1 + len(shape.key) + len(shape.set) + len(shape.add)))
    text = re.sub("%[%s]", lambda found: "%" if found[0] == "%%" else f"${next(numbers)}", statement(shape).decode())
    return PlannedStatement(str(shape.table), shape.operation, text, tuple(parameters(shape, group.writes)))
