"""Routes, compiled: from an event to the writes it means. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pycdc.config import PostgresSink, Route
from pycdc.events import Event
from pycdc.sinks.postgres.route import PlainRoute
from pycdc.sinks.postgres.route_compiler import WriteOf, compile_route
from pycdc.sinks.postgres.tables import TargetTable
from pycdc.sinks.postgres.values import Unwritable
from pycdc.sinks.postgres.writes import Write

_KINDS: Final = 256
"""Of rows that a route has functions for; JSON whose fields come and go may have any number."""


class Router:
    """All routes of a sink. Topics that no route takes are the source's mistake: they are an error, never skipped."""

    def __init__(
        self, settings: PostgresSink, tables: Mapping[str, TargetTable], ranks: Sequence[int] | None = None
    ) -> None:
        """`ranks`: in which order the routes' rows are written; None: that of the configuration."""
        self._routes = [
            _CompiledRoute(route, tables[route.table], rank, settings.unavailable)
            for rank, route in zip(ranks or range(len(settings.routes)), settings.routes, strict=True)
        ]
        self._by_topic: dict[str, list[_CompiledRoute]] = {}

    def writes(self, event: Event) -> list[Write]:
        """Raises Unwritable where the event does not fit its route."""
        topic = event.partition.topic
        routes = self._by_topic.get(topic) or self._of(topic)
        found = [route.write(event) for route in routes if route.always or route.plain.takes(event)]
        return [write for write in found if write is not None]

    def rank(self, topic: str) -> int:
        """The place of the first route that takes `topic`."""
        return next((route.plain.order for route in self._by_topic.get(topic, ())), 0)

    def _of(self, topic: str) -> list[_CompiledRoute]:
        found = [route for route in self._routes if route.plain.takes_topic(topic)]
        if not found:
            raise Unwritable(f"no route takes topic {topic}")
        return self._by_topic.setdefault(topic, found)


class _CompiledRoute:
    """Chooses the function for a row's fields. Placeholders of values that were not sent are left to the twin."""

    def __init__(self, route: Route, table: TargetTable, order: int, unavailable: str) -> None:
        self.plain = PlainRoute(route, table, order, unavailable)
        self.always = not route.when
        self._placeholder = unavailable.encode()
        self._functions: dict[tuple[str, ...], WriteOf] = {}

    def write(self, event: Event) -> Write | None:
        row, raw = event.row, event.raw_value
        if row is None or raw is None or self._placeholder in raw:
            return self.plain.write(event)
        function = self._functions.get(tuple(row)) or self._function(tuple(row))
        return function(event, row)

    def _function(self, fields: tuple[str, ...]) -> WriteOf:
        if len(self._functions) >= _KINDS:
            return lambda event, row: self.plain.write(event)
        return self._functions.setdefault(fields, compile_route(self.plain, fields))
