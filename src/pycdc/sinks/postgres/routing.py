"""Routes, compiled: from an event to the writes it means. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final

from pycdc.config import PostgresSink, Route
from pycdc.events import Event
from pycdc.patterns import names_any
from pycdc.sinks.postgres.tables import TargetTable, key_columns
from pycdc.sinks.postgres.values import Unwritable, text_of
from pycdc.sinks.postgres.writes import Number, Operation, Write


class _Absent(Enum):
    ABSENT = "ABSENT"


_ABSENT: Final = _Absent.ABSENT
"""A field that an event does not have. Not null."""

Look = Callable[[Event, Mapping[str, Any] | None], Any]
"""From an event and the row that counts (after, or before for a delete) to a field's value or `_ABSENT`."""


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
        routes = self._of(topic)
        if not routes:
            raise Unwritable(f"no route takes topic {topic}")
        found = (route.write(event) for route in routes if route.takes(event))
        return [write for write in found if write is not None]

    def rank(self, topic: str) -> int:
        """The place of the first route that takes `topic`."""
        return next((route.order for route in self._of(topic)), 0)

    def _of(self, topic: str) -> list[_CompiledRoute]:
        if topic not in self._by_topic:
            self._by_topic[topic] = [route for route in self._routes if route.takes_topic(topic)]
        return self._by_topic[topic]


class _CompiledRoute:
    def __init__(self, route: Route, table: TargetTable, order: int, unavailable: str) -> None:
        self._route = route
        self._table = table
        self.order = order
        self._unavailable = (unavailable, unavailable.encode(), [unavailable])
        self._when = [(look_up(path), str(value)) for path, value in route.when.items()]
        self._key = {column: look_up(route.key.get(column, column)) for column in key_columns(route, table)}
        self._key_fields = {route.key.get(column, column) for column in self._key}
        chosen = {} if route.set is None and route.operation == "delta" else route.set
        self._set = None if chosen is None else {column: look_up(path) for column, path in chosen.items()}
        self._delta = {column: look_up(path) for column, path in route.delta.items()}
        self._constants = self._texts(route.constants, None)

    def takes_topic(self, topic: str) -> bool:
        return names_any([self._route.topic], topic)

    def takes(self, event: Event) -> bool:
        row = event.before if event.deleted else event.row
        return all(_shown(look(event, row)) == value for look, value in self._when)

    def write(self, event: Event) -> Write | None:
        operation = self._route.operation
        if event.deleted:
            deletion = self._route.deletion
            return None if deletion == "ignore" else self._removal(event, soft=deletion == "soft_delete")
        if operation == "delete" or operation == "soft_delete":
            return self._removal(event, soft=operation == "soft_delete")
        if operation == "delta":
            return self._write(event, "update", {c: self._amount(c, look, event) for c, look in self._delta.items()})
        return self._write(event, operation, {})

    def _write(self, event: Event, operation: Operation, add: dict[str, Number]) -> Write:
        key = self._key_of(event)
        values = {**self._assigned(event), **self._constants}
        for column in key:
            values.pop(column, None)
        must_exist = operation == "update" and self._route.missing == "error"
        return Write(self._table, operation, key, values, add, must_exist, self.order)

    def _removal(self, event: Event, *, soft: bool) -> Write:
        """A row that is gone already is as it should be."""
        key = self._key_of(event)
        if not soft:
            return Write(self._table, "delete", key, order=self.order)
        return Write(self._table, "update", key, self._texts(self._route.soft_delete, event), order=self.order)

    def _key_of(self, event: Event) -> dict[str, str]:
        row = event.before if event.deleted else event.row
        out = {}
        for column, look in self._key.items():
            value = look(event, row)
            if value is _ABSENT:
                value = look(event, event.key if isinstance(event.key, dict) else None)
            if value is _ABSENT and event.deleted and len(self._key) == 1 and not isinstance(event.key, dict | None):
                value = event.key  # a tombstone whose key is one plain value
            text = None if value is _ABSENT else text_of(value, self._table.columns[column])
            if text is None:
                raise Unwritable(f"the event does not tell the key column {column} of table {self._table}")
            out[column] = text
        return out

    def _assigned(self, event: Event) -> dict[str, str | None]:
        row = event.row or {}
        if self._set is None:
            unknown = row.keys() - self._table.columns.keys() - self._key_fields
            if unknown:
                raise Unwritable(f"table {self._table} has no column {sorted(unknown)[0]}, and the route has no `set`")
            fields = {name: row[name] for name in row if name in self._table.columns}
        else:
            fields = {column: look(event, row) for column, look in self._set.items()}
        return {
            column: text_of(value, self._table.columns[column])
            for column, value in fields.items()
            if value is not _ABSENT and value not in self._unavailable
            if not self._table.columns[column].generated
        }

    def _amount(self, column: str, look: Look, event: Event) -> Number:
        value = look(event, event.row)
        try:
            if value is _ABSENT or isinstance(value, bool):
                raise ValueError
            amount = Decimal(repr(value) if isinstance(value, float) else value)
            if not amount.is_finite():
                raise ValueError
        except (ValueError, TypeError, InvalidOperation):
            raise Unwritable(f"the event has no number to add to column {column} of table {self._table}") from None
        whole = amount.to_integral_value()
        return int(whole) if amount == whole else amount

    def _texts(self, values: Mapping[str, Any], event: Event | None) -> dict[str, str | None]:
        out = {}
        for column, value in values.items():
            of_record = event is not None and value == "$timestamp"
            out[column] = _timestamp(event) if event and of_record else text_of(value, self._table.columns[column])
        return out


def look_up(path: str) -> Look:
    """The function that finds a field: see `config.Route`."""
    head, _, rest = path.partition(".")
    if head == "$key":
        return (lambda event, row: _inside(event.key, rest)) if rest else lambda event, row: _present(event.key)
    if head == "$headers":
        return lambda event, row: _header(event, rest)
    if path in _RECORD:
        own = _RECORD[path]
        return lambda event, row: own(event)
    if not rest:
        return lambda event, row: _ABSENT if row is None else row.get(path, _ABSENT)
    return lambda event, row: _inside(row, path)


def _timestamp(event: Event) -> str:
    return datetime.fromtimestamp(event.timestamp / 1000, UTC).isoformat()


_RECORD: Final[dict[str, Callable[[Event], Any]]] = {
    "$topic": lambda event: event.partition.topic,
    "$partition": lambda event: event.partition.number,
    "$offset": lambda event: event.offset,
    "$timestamp": _timestamp,
}


def _inside(value: Any, path: str) -> Any:
    """A field whose own name has dots goes before a path."""
    if isinstance(value, dict) and path in value:
        return value[path]
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _header(event: Event, name: str) -> Any:
    found = [value for header, value in event.headers if header == name]
    return _ABSENT if not found else None if found[-1] is None else found[-1].decode("utf-8", "replace")


def _present(value: Any) -> Any:
    return _ABSENT if value is None else value


def _shown(value: Any) -> str:
    return str(value)
